/** A document of facts as a table of two columns. */
import type { Table } from "./output.ts";

/** `nextPageToken` as people read it: `next_page_token`. */
function words(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** One row a fact; the items of a list share one, those of a map have one each. */
export function factTable(json: Readonly<Record<string, unknown>>): Table<readonly [string, string]> {
  const rows = Object.entries(json).flatMap(([name, value]): (readonly [string, string])[] => {
    if (Array.isArray(value)) return [[words(name), value.map(String).join(", ")]];
    if (typeof value === "object" && value !== null)
      return Object.entries(value).map(([key, item]) => [`${words(name)}.${key}`, String(item)] as const);
    return [[words(name), String(value)]];
  });
  return {
    columns: [
      { title: "FACT", stored: ([name]) => name },
      { title: "VALUE", stored: ([, value]) => value },
    ],
    rows,
  };
}
