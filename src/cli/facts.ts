/** A document of facts as a table of two columns. */
import type { Table } from "./output.ts";

/** One row a fact; the items of a list share one, those of a map have one each. */
export function factTable(json: Readonly<Record<string, unknown>>): Table<readonly [string, string]> {
  const rows = Object.entries(json).flatMap(([name, value]): (readonly [string, string])[] => {
    if (Array.isArray(value)) return [[name, value.map(String).join(", ")]];
    if (typeof value === "object" && value !== null)
      return Object.entries(value).map(([key, item]) => [`${name}.${key}`, String(item)] as const);
    return [[name, String(value)]];
  });
  return {
    columns: [
      { title: "FACT", cell: ([name]) => name },
      { title: "VALUE", cell: ([, value]) => value },
    ],
    rows,
  };
}
