"use strict";
// Sorting and filtering only: the page reads without it.
(() => {
  const table = document.querySelector("table.tasks");
  if (!table) return;
  const body = table.tBodies[0];
  const number = (row, column) => {
    const cell = row.cells[column];
    return cell && cell.dataset.sort !== undefined ? parseFloat(cell.dataset.sort) : NaN;
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const rows = [...body.rows];
      rows.sort((a, b) => {
        if (column === 0) {
          const order = a.dataset.task.localeCompare(b.dataset.task, undefined, { numeric: true });
          return rising ? order : -order;
        }
        const [x, y] = [number(a, column), number(b, column)];
        // Withheld figures come last in either direction.
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return rising ? x - y : y - x;
      });
      body.append(...rows);
    });
  });
  const controls = document.querySelector(".controls");
  const field = controls && controls.querySelector("input");
  if (field) {
    controls.hidden = false;
    const shown = controls.querySelector("output");
    const named = [...document.querySelectorAll("[data-task]")];
    const folds = [...document.querySelectorAll("details.more")];
    field.addEventListener("input", () => {
      const wanted = field.value.trim().toLowerCase();
      for (const element of named) element.hidden = !element.dataset.task.toLowerCase().includes(wanted);
      if (wanted) for (const fold of folds) fold.open = true;
      shown.textContent = wanted ? `${[...body.rows].filter((row) => !row.hidden).length} shown` : "";
    });
  }
  window.addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("details")) fold.open = true;
  });
})();
