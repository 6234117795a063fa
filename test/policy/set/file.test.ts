import fc from "fast-check";
import { expect, test } from "vitest";
import { POLICY_BOUNDS } from "../../../src/lib/bounds.ts";
import { formatPolicyFile, readPolicyFile } from "../../../src/policy/set/file.ts";
import { runs } from "../../fakes/effort.ts";
import { containing, rule, set, someSet } from "../../fakes/policies.ts";

const WHOLE = `# Who sees the market
version: "2026-11-20"
default_allow: true
rules:
  - namespace: svc.market
    owners: [eu-1]
    visibility: [eu-1, us-1]
    visibility_tenants: [blue]
    export_scopes: [region, global]
    allow_summaries: true
    cutover_windows:
      - starts_at: 2026-12-01T18:00:00+01:00
        ends_at: 2026-12-01T19:00:00.250Z
        export_scopes: [global]
        allow_summaries: false
      - starts_at: 2027-01-01T00:00:00Z
    policy_version: r7
    priority: -3
    quota: { entries: 1000, watches: 10, bytes: 1_000 }
  - namespace: svc.market.*
`;

test("every field of a rule can be written", () => {
  const { set: read, problems } = readPolicyFile(WHOLE.replace("1_000", "1000"));
  expect(problems).toEqual([]);
  expect(read).toEqual({
    version: "2026-11-20",
    defaultAllow: true,
    rules: [
      {
        pattern: "svc.market",
        owners: ["eu-1"],
        visibility: ["eu-1", "us-1"],
        visibilityTenants: ["blue"],
        exportScopes: [3, 4],
        allowSummaries: true,
        cutoverWindows: [
          {
            startsWallMs: Date.UTC(2026, 11, 1, 17),
            endsWallMs: Date.UTC(2026, 11, 1, 19, 0, 0, 250),
            exportScopes: [4],
            allowSummaries: false,
          },
          { startsWallMs: Date.UTC(2027, 0, 1), endsWallMs: undefined, exportScopes: [], allowSummaries: undefined },
        ],
        policyVersion: "r7",
        priority: -3,
        quota: { entries: 1000, watches: 10, bytes: 1000 },
      },
      rule("svc.market.*"),
    ],
  });
});

test.each([
  { why: "an unknown key of the set", text: "defalt_allow: true", line: 1, path: "defalt_allow", says: "did you mean default_allow?" },
  {
    why: "a key in camel case",
    text: "rules:\n- namespace: a\n  visibilityTenants: [x]",
    line: 3,
    path: "rules[0].visibilityTenants",
    says: "did you mean visibility_tenants?",
  },
  { why: "a rule without a namespace", text: "rules:\n- owners: [x]", line: 2, path: "rules[0]", says: "namespace is required" },
  {
    why: "a scope that is none",
    text: "rules:\n- namespace: a\n  export_scopes:\n  - zone\n  - glob",
    line: 5,
    path: "rules[0].export_scopes[1]",
    says: "local, zone, region or global",
  },
  {
    why: "a day that is none",
    text: "rules:\n- namespace: a\n  cutover_windows:\n  - starts_at: 2026-02-30T00:00:00Z",
    line: 4,
    path: "rules[0].cutover_windows[0].starts_at",
    says: "RFC 3339",
  },
  {
    why: "a time without an offset",
    text: "rules:\n- namespace: a\n  cutover_windows:\n  - starts_at: 2026-02-03T00:00:00",
    line: 4,
    path: "rules[0].cutover_windows[0].starts_at",
    says: "RFC 3339",
  },
  {
    why: "a window that ends first",
    text: "rules:\n- namespace: a\n  cutover_windows:\n  - starts_at: 2026-02-03T00:00:00Z\n    ends_at: 2026-02-02T00:00:00Z",
    line: 5,
    path: "rules[0].cutover_windows[0].ends_at",
    says: "must be after starts_at",
  },
  {
    why: "a window without a start",
    text: "rules:\n- namespace: a\n  cutover_windows:\n  - allow_summaries: true",
    line: 4,
    path: "rules[0].cutover_windows[0]",
    says: "starts_at is required",
  },
  { why: "a version that YAML takes for a number", text: "version: 1.10", line: 1, path: "version", says: 'write "1.1"' },
  { why: "a word for a flag", text: "default_allow: yes", line: 1, path: "default_allow", says: "true or false" },
  { why: "text for a number", text: 'rules:\n- namespace: a\n  priority: "3"', line: 3, path: "rules[0].priority", says: "whole number" },
  {
    why: "a list key left empty",
    text: "rules:\n- namespace: a\n  visibility_tenants:",
    line: 3,
    path: "rules[0].visibility_tenants",
    says: "must be a list",
  },
  { why: "rules that are a map", text: "rules: { a: 1 }", line: 1, path: "rules", says: "must be a list" },
  { why: "a rule that is a word", text: "rules: [a]", line: 1, path: "rules[0]", says: "must be a map" },
  { why: "the same pattern twice", text: "rules:\n- namespace: a\n- namespace: a", line: 3, path: "rules[1].namespace", says: "rules[0]" },
  { why: "a file that is a list", text: "- namespace: a", line: 1, path: "", says: "must be a map with version, default_allow, rules" },
  { why: "an empty file", text: "# nothing\n", line: 1, path: "", says: "is empty: a policy is an object with the keys" },
  { why: "a second document", text: "version: a\n---\nversion: b", line: 3, path: "", says: "second document" },
  { why: "a key twice in YAML", text: "version: a\nversion: b", line: 2, path: "", says: "unique" },
  {
    why: "a key twice in JSON",
    text: '{"version": "a",\n"rules": [{"namespace": "a",\n"namespace": "b"}]}',
    line: 3,
    path: "",
    says: '"namespace" appears twice',
  },
  { why: "broken YAML", text: "rules: [", line: 1, path: "", says: "]" },
  { why: "broken JSON", text: '{"version": \n"a"', line: 2, path: "", says: "}" },
  { why: "deep YAML", text: "[".repeat(50_000), line: 1, path: "", says: "nested too deeply" },
  { why: "deep JSON", text: `${'{"a":'.repeat(100)}1${"}".repeat(100)}`, line: 1, path: "", says: "nested too deeply" },
  { why: "a key of the prototype", text: '{"__proto__": {"version": "a"}}', line: 1, path: "__proto__", says: "unknown key" },
])("$why is refused with its line", ({ text, line, path, says }) => {
  const read = readPolicyFile(text);
  expect(read.set).toBeUndefined();
  expect(read.problems).toContainEqual({ line, path, severity: "error", message: containing(says) });
  expect(read.problems).toHaveLength(1);
});

test("a file above 8 MiB is refused before it is looked at", () => {
  const started = process.cpuUsage();
  // Each has three bytes in a file.
  expect(readPolicyFile(`# ${"\u{20ac}".repeat(2_796_203)}`).problems).toMatchObject([
    { message: containing("at most 8388608 bytes, got 8388611") },
  ]);
  expect(readPolicyFile("[".repeat(POLICY_BOUNDS.maxFileBytes + 1)).problems).toMatchObject([
    { message: containing("at most 8388608 bytes") },
  ]);
  // Of this process alone, whatever else the machine does; looking at it takes seconds.
  const { user, system } = process.cpuUsage(started);
  expect((user + system) / 1000).toBeLessThan(500);
});

test("anchors that grow by multiplying are refused", () => {
  const lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"];
  for (let i = 1; i < 9; i++) lines.push(`a${i}: &a${i} [${Array.from({ length: 9 }, () => `*a${i - 1}`).join(", ")}]`);
  expect(readPolicyFile(lines.join("\n")).problems).toMatchObject([{ message: "uses more than 100 aliases" }]);
});

test("an anchor that saves repetition is fine", () => {
  const text = "rules:\n- { namespace: a, visibility_tenants: &both [blue, red] }\n- { namespace: b, visibility_tenants: *both }";
  expect(readPolicyFile(text).set?.rules.map(({ visibilityTenants }) => visibilityTenants)).toEqual([
    ["blue", "red"],
    ["blue", "red"],
  ]);
});

test("a list written down empty is warned of: it shows the namespace to everybody", () => {
  const read = readPolicyFile("rules:\n- namespace: a\n  visibility_tenants: []");
  expect(read.set).toEqual(set([rule("a")], { version: "" }));
  expect(read.problems).toMatchObject([{ line: 3, path: "rules[0].visibility_tenants", severity: "warning" }]);
});

test("problems come in the order of lines, those of values and those of rules together", () => {
  const text = "rules:\n- namespace: A\n- namespace: b\n  owners: [x, x]\n";
  expect(readPolicyFile(text).problems.map(({ line }) => line)).toEqual([2, 4]);
  const many = `rules:\n${"- 1\n".repeat(3000)}`;
  expect(readPolicyFile(many).problems).toHaveLength(1001);
});

test.each(["yaml", "json"] as const)("a set written as %s is read back as it was", (format) => {
  fc.assert(
    fc.property(someSet, (any) => {
      const { set: read, problems } = readPolicyFile(formatPolicyFile(any, format));
      expect(problems.filter(({ severity }) => severity === "error")).toEqual([]);
      expect(read).toEqual(any);
    }),
    { numRuns: runs(100) },
  );
});

test("no text makes it throw", () => {
  const words = fc.constantFrom(
    "version",
    "rules",
    "namespace",
    ":",
    "-",
    "\n",
    " ",
    "{",
    "}",
    "[",
    "]",
    "&a",
    "*a",
    '"',
    "a.b",
    "|",
    "? ",
    "<<",
    "%YAML",
  );
  fc.assert(
    fc.property(fc.array(words, { maxLength: 40 }), (parts) => {
      expect(readPolicyFile(parts.join(" "))).toBeDefined();
    }),
  );
});

test("all errors are told at once: what cannot be read does not hide what is wrong with the rest", () => {
  const text = `version: x
rules:
  - namespace: svc.market
    ownrs: [a]
  - namespace: Not.One
    export_scopes: [glob, local, local]
    quota: { entries: -1, bytes: many }
  - owners: [eu-1, eu-1, 7]
  - namespace: svc.market
    cutover_windows:
      - { starts_at: 2026-12-02T00:00:00Z, ends_at: 2026-12-01T00:00:00Z }
      - { starts_at: soon, ends_at: 1960-01-01T00:00:00Z }
`;
  const { set: read, problems } = readPolicyFile(text);
  expect(read).toBeUndefined();
  expect(problems.map(({ line, path }) => `${line}: ${path}`)).toEqual([
    "4: rules[0].ownrs",
    "5: rules[1].namespace",
    "6: rules[1].export_scopes[0]",
    "6: rules[1].export_scopes[2]",
    "7: rules[1].quota.bytes",
    "7: rules[1].quota.entries",
    "8: rules[2]",
    "8: rules[2].owners[2]",
    "8: rules[2].owners[1]",
    "9: rules[3].namespace",
    "11: rules[3].cutover_windows[0].ends_at",
    "12: rules[3].cutover_windows[1].starts_at",
  ]);
});

test("a warning about a rule waits until the rule can be read", () => {
  const text = "rules:\n- namespace: svc\n  ownrs: [a]\n- namespace: svc.market\n";
  expect(readPolicyFile(text).problems.map(({ path }) => path)).toEqual(["rules[0].ownrs"]);
});
