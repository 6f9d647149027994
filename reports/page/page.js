"use strict";
// The first number of a field, with true minus signs; a bound counts as its number, a dash as none.
const numberIn = (text) => {
  const found = text.replaceAll("−", "-").replaceAll(",", "").match(/[-+]?\d+(\.\d+)?(e[-+]?\d+)?/i);
  return found ? Number(found[0]) : NaN;
};

const sortBy = (table, place) => {
  const heads = [...table.tHead.rows[0].cells];
  const up = heads[place].getAttribute("aria-sort") !== "ascending";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[place].setAttribute("aria-sort", up ? "ascending" : "descending");
  const text = (row) => row.cells[place].innerText.trim();
  const rows = [...table.tBodies[0].rows];
  const isNumber = rows.some((row) => /^[-+−<> ]*\d/.test(text(row)));
  const compare = (a, b) => {
    if (!isNumber) return text(a).localeCompare(text(b));
    const [x, y] = [numberIn(text(a)), numberIn(text(b))];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return x - y;
  };
  const known = (row) => !isNumber || !Number.isNaN(numberIn(text(row)));
  const ordered = rows.filter(known).sort((a, b) => (up ? compare(a, b) : compare(b, a)));
  table.tBodies[0].append(...ordered, ...rows.filter((row) => !known(row)));
};

document.querySelectorAll("table").forEach((table) => {
  if (!table.tHead) return;
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sortBy(table, place));
  });
});

document.querySelectorAll(".arms input").forEach((box) => {
  box.addEventListener("change", () => {
    document.querySelectorAll(`.arm-${box.dataset.arm}`).forEach((mark) => {
      mark.classList.toggle("gone", !box.checked);
    });
    document.querySelectorAll("#tables tbody tr").forEach((row) => {
      const names = [...row.cells].slice(0, 3).map((cell) => cell.innerText.trim());
      if (names.includes(box.dataset.name)) row.classList.toggle("gone", !box.checked);
    });
  });
});
