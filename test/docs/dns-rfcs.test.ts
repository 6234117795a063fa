import { existsSync, globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../../scripts/run.ts";

const TABLE = readFileSync(join(ROOT, "docs/reference/dns-rfcs.md"), "utf8");

test("each RFC of the DNS gateway names tests that are there and speak of DNS", () => {
  const rows = TABLE.match(/^\| \d.*\|$/gm) ?? [];
  expect(rows.length).toBeGreaterThan(10);
  for (const row of rows) {
    const tests = [...row.matchAll(/`(test\/[^`]+)`/g)].map(([, path = ""]) => path);
    expect(tests.length, `tests of ${row}`).toBeGreaterThan(0);
    for (const path of tests)
      expect(existsSync(join(ROOT, path)) && readFileSync(join(ROOT, path), "utf8").includes("dns"), `${path} is about DNS`).toBe(true);
  }
});

test("each RFC that the pages and the code of DNS name has its row", () => {
  // The guide names this one as what other resolvers do.
  const others = ["6303"];
  const pages = ["guides/dns.md", "guides/dns-production.md", "design/dns.md", "runbooks/dns.md"].map((page) => `docs/${page}`);
  const texts = [...globSync("src/{dns,node/dns}/**/*.ts", { cwd: ROOT }), ...pages].map((path) => readFileSync(join(ROOT, path), "utf8"));
  const named = new Set(texts.flatMap((text) => [...text.matchAll(/RFC (\d+)/g)].map(([, number = ""]) => number)));
  expect(named.size).toBeGreaterThan(20);
  const told = new Set([...TABLE.matchAll(/^\| ([\d, ]+) \|/gm)].flatMap(([, numbers = ""]) => numbers.split(", ")));
  expect([...named].filter((number) => !told.has(number) && !others.includes(number))).toEqual([]);
});
