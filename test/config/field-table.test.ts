import { expect, test } from "vitest";
import { list, ms, optionalText, type Parsed, text } from "../../src/config/field.ts";
import { record, rows } from "../../src/config/field-table.ts";

const FIELDS = {
  tenant: text({ default: "", pattern: /^[a-z]+$/, what: "lower-case letters", doc: "" }),
  maxAgeMs: ms({ default: 1000, min: 0, max: 60_000, doc: "" }),
  tokenSha256: optionalText({ pattern: /^[0-9a-f]{4}$/, what: "four hexadecimal digits", secret: true, doc: "" }),
  roles: list({ default: [], doc: "" }),
};
const table = { doc: "Some tables.", fields: FIELDS, required: ["tenant"] as const };
const several = rows({ ...table, check: ({ tenant, roles }) => (tenant === "none" && roles.length > 0 ? "none has no roles" : undefined) });

function valueOf<T>(parsed: Parsed<T>): T {
  if ("value" in parsed) return parsed.value;
  throw new Error(JSON.stringify(parsed.faults));
}

function problems(raw: unknown): readonly string[] {
  const parsed = several.parse(raw);
  return "value" in parsed ? [] : parsed.faults.map(({ at, message }) => `${at.join("/")}: ${message}`);
}

test("a list of tables has each field under its name in code, and defaults for what is absent", () => {
  expect(valueOf(several.parse([{ tenant: "alpha", max_age: "2s", roles: ["a"] }, { tenant: "beta" }]))).toEqual([
    { tenant: "alpha", maxAgeMs: 2000, tokenSha256: undefined, roles: ["a"] },
    { tenant: "beta", maxAgeMs: 1000, tokenSha256: undefined, roles: [] },
  ]);
});

test.each([
  { what: "no list", raw: { tenant: "alpha" }, want: [": is not a list of tables"] },
  { what: "no table", raw: ["alpha"], want: ["0: is not a table of tenant, maxAgeMs, tokenSha256, roles"] },
  { what: "a field that is required", raw: [{}], want: ["0/tenant: is required"] },
  { what: "an unknown key", raw: [{ tenant: "alpha", role: [] }], want: ["0/role: unknown key; did you mean roles?"] },
  {
    what: "a value out of bounds",
    raw: [{ tenant: "alpha", max_age: "2m" }],
    want: ["0/max_age: 2m is more than 1m, the largest allowed"],
  },
  { what: "fields that do not go together", raw: [{ tenant: "none", roles: ["a"] }], want: ["0: none has no roles"] },
  { what: "several problems", raw: [{ tenant: "A" }, {}], want: ['0/tenant: "A" is not lower-case letters', "1/tenant: is required"] },
  {
    what: "too many tables",
    raw: Array.from({ length: 1001 }, () => ({ tenant: "a" })),
    want: [": 1001 tables are more than 1000, the most allowed"],
  },
])("$what is refused where it is", ({ raw, want }) => {
  expect(problems(raw)).toEqual(want);
});

test("what a secret was is never shown, neither when it is wrong nor when it is right", () => {
  expect(problems([{ tenant: "alpha", token_sha256: "hunter2" }])).toEqual(["0/token_sha256: is not four hexadecimal digits"]);
  const shown = several.toText(valueOf(several.parse([{ tenant: "alpha", token_sha256: "beef" }])));
  expect(shown).toBe('[{"tenant":"alpha","max_age":"1s","token_sha256":"[secret]"}]');
});

test("the environment brings JSON; what is none is refused without being shown", () => {
  expect(valueOf(several.parse(several.fromText('[{"tenant":"alpha"}]')))).toHaveLength(1);
  expect(valueOf(several.parse(several.fromText("")))).toEqual([]);
  expect(problems(several.fromText("[{token: hunter2"))).toEqual([": is not a list of tables"]);
});

test("a single table may be absent, and shows only what it has", () => {
  const one = record(table);
  expect(one.toText(one.default)).toBe("");
  expect(one.toText(valueOf(one.parse({ tenant: "alpha" })))).toBe('{"tenant":"alpha","max_age":"1s"}');
});
