import { readFileSync } from "node:fs";
import { afterEach, expect, test } from "vitest";
import { waymark } from "../../fakes/cli-world.ts";
import { FakeDiscovery } from "../../fakes/discovery-server.ts";

const started: FakeDiscovery[] = [];

async function startFake(): Promise<FakeDiscovery> {
  const fake = new FakeDiscovery();
  await fake.start();
  started.push(fake);
  return fake;
}

afterEach(() => {
  for (const fake of started.splice(0)) fake.stop();
});

const DEMO = { "shop.yaml": readFileSync("docs/examples/online-boutique.yaml", "utf8") };
const ONE = "apiVersion: v1\nkind: Service\nmetadata: { name: one }\nspec: { ports: [{ port: 80 }] }\n";
const TWO = ONE.replace("one", "two");

interface Result {
  readonly applied: boolean;
  readonly counts: Readonly<Record<string, number>>;
  readonly changes: readonly {
    readonly action: string;
    readonly fields: readonly string[];
    readonly key: Readonly<Record<string, string>>;
  }[];
  readonly problems: readonly { readonly line: number; readonly message: string }[];
  readonly leaseId: string;
}

async function importing(fake: FakeDiscovery, text: string, flags: readonly string[] = []) {
  const ran = await waymark(["import", "kubernetes", "m.yaml", "-o", "json", "--server", fake.address, ...flags], {
    files: { "m.yaml": text },
  });
  // oxlint-disable-next-line typescript/no-unsafe-assignment -- the shape is what the test is about
  const result: Result = JSON.parse(ran.stdout);
  return { ...ran, result };
}

test("an import registers everything once; the same import again registers nothing", async () => {
  const fake = await startFake();
  const first = await importing(fake, DEMO["shop.yaml"]);
  expect(first.result.counts).toEqual({ create: 20, update: 0, move: 0, remove: 0, unchanged: 0 });
  expect(fake.callsOf("register")).toHaveLength(1);
  expect(fake.callsOf("register")[0]?.request).toMatchObject({ staticLease: true });
  const second = await importing(fake, DEMO["shop.yaml"]);
  expect(second).toMatchObject({ exit: 0, result: { counts: { create: 0, update: 0, move: 0, remove: 0, unchanged: 20 }, leaseId: "" } });
  expect(fake.callsOf("register")).toHaveLength(1);
});

test.each([
  { field: "targets: [{ host: 10.0.0.1, port: 70000 }]", says: "targets[0].port: 70000 is invalid: must be less than or equal to 65535" },
  { field: 'function: { functionId: "a b" }', says: 'function.function_id: "a b" is invalid: ' },
  { field: `function: { functionId: "${"a b".repeat(40)}" }`, says: "function.function_id: does not match" },
])("apply shows an invalid value, unless it is long: $says", async ({ field, says }) => {
  const files = { "e.yaml": `key: { namespace: a.b, name: x, instanceId: "1" }\n${field}\n` };
  const { stderr } = await waymark(["apply", "-f", "e.yaml"], { files });
  expect(stderr).toContain(`e.yaml:1: ${says}`);
});

test("a change is one update that names its fields", async () => {
  const fake = await startFake();
  await importing(fake, ONE);
  const { result } = await importing(fake, ONE.replace("port: 80", "port: 81, name: http"));
  expect(result.changes).toMatchObject([{ action: "update", fields: ["targets"], key: { name: "one" } }]);
  expect(fake.entries.size).toBe(1);
});

test("--dry-run shows the difference and changes nothing", async () => {
  const fake = await startFake();
  const { exit, result } = await importing(fake, ONE, ["--dry-run"]);
  expect(exit).toBe(0);
  expect(result).toMatchObject({ applied: false, counts: { create: 1 } });
  expect(fake.entries.size).toBe(0);
});

test("--prune removes what this importer registered, and nothing of anybody else", async () => {
  const fake = await startFake();
  await importing(fake, `${ONE}---\n${TWO}`);
  await importing(fake, ONE.replace("one", "theirs"), ["--importer", "other"]);
  await waymark(["register", "--namespace", "k8s.default", "--name", "byhand", "--instance", "1", "--server", fake.address]);
  const kept = await importing(fake, ONE);
  expect(kept.result.counts).toMatchObject({ remove: 0 });
  const dry = await importing(fake, ONE, ["--prune", "--dry-run"]);
  expect(dry.result.counts).toMatchObject({ remove: 1 });
  const { result } = await importing(fake, ONE, ["--prune"]);
  expect(result.changes.filter(({ action }) => action === "remove")).toMatchObject([{ key: { name: "two" } }]);
  expect([...fake.entries.values()].map(({ key }) => key?.name ?? "").toSorted()).toEqual(["byhand", "one", "theirs"]);
});

test.each([
  { what: "nothing", text: "" },
  { what: "an empty list", text: JSON.stringify({ kind: "List", apiVersion: "v1", items: [] }) },
  { what: "other kinds only", text: "apiVersion: v1\nkind: Secret\nmetadata: { name: s }\n" },
])("--prune with an input of $what removes nothing unless --allow-empty says that this is meant", async ({ text }) => {
  const fake = await startFake();
  await importing(fake, ONE);
  const pruning = ["import", "kubernetes", "-", "--prune", "--server", fake.address];
  for (const flags of [[], ["--dry-run"], ["--partial"]]) {
    const refused = await waymark([...pruning, ...flags], { files: { "-": text } });
    expect(refused).toMatchObject({ exit: 1, stdout: "" });
    expect(refused.stderr).toContain("--prune would remove all entries of kubernetes; pass --allow-empty");
  }
  expect(fake.entries.size).toBe(1);
  expect(await waymark([...pruning, "--allow-empty"], { files: { "-": text } })).toMatchObject({ exit: 0 });
  expect(fake.entries.size).toBe(0);
});

test("--prune removes nothing where a document is broken, also with --partial and --allow-empty", async () => {
  const fake = await startFake();
  await importing(fake, `${ONE}---\n${TWO}`);
  const broken = "foo: 1\n";
  for (const text of [broken, `${ONE}---\n${broken}`]) {
    const { exit, stderr, result } = await importing(fake, text, ["--prune", "--partial", "--allow-empty"]);
    expect({ exit, counts: result.counts }).toMatchObject({ exit: 1, counts: { remove: 0 } });
    expect(stderr).toContain("nothing was removed: --prune requires an input without problems");
  }
  expect(fake.entries.size).toBe(2);
});

test("problems stop everything, with their lines, unless --partial", async () => {
  const fake = await startFake();
  const text = `${ONE}---\nkind: Service\napiVersion: v1\nmetadata: { name: Bad }\nspec: {}\n`;
  const refused = await importing(fake, text);
  expect(refused.exit).toBe(1);
  expect(refused.result).toMatchObject({ applied: false, problems: [{ line: 8 }] });
  expect(refused.stderr).toContain("m.yaml:8: Service Bad: metadata.name");
  expect(fake.entries.size).toBe(0);
  const partial = await importing(fake, text, ["--partial"]);
  expect(partial.exit).toBe(1);
  expect(partial.result).toMatchObject({ applied: true, counts: { create: 1 } });
  expect(fake.entries.size).toBe(1);
});

test("more than a request may hold goes in several requests under one lease", async () => {
  const fake = await startFake();
  const many = Array.from({ length: 2500 }, (_, n) => ({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: `s${n}` },
    spec: { ports: [{ port: 80 }] },
  }));
  const { result } = await importing(fake, JSON.stringify({ kind: "List", apiVersion: "v1", items: many }));
  expect(result.counts).toMatchObject({ create: 2500 });
  expect(fake.callsOf("register").map(({ request }) => request)).toMatchObject([
    { staticLease: true, leaseId: "" },
    { staticLease: false, leaseId: "lease-1" },
    { staticLease: false, leaseId: "lease-1" },
  ]);
  const pruned = await importing(fake, ONE, ["--prune"]);
  expect(pruned.result.counts).toMatchObject({ create: 1, remove: 2500 });
  expect(fake.callsOf("unregister")).toHaveLength(3);
});

const ENTRIES = `
key: { kind: SERVICE, namespace: svc.market, name: web, instance_id: web-1 }
scope: region
targets:
  - { host: 10.0.0.1, port: 8080, protocol: http }
metadata: { team: shop }
---
entries:
  - key: { namespace: svc.market, name: sum, instanceId: f-1 }
    ttl: 30s
    function: { version: 1.2.3 }
  - key: { kind: ENTRY_KIND_QUEUE, namespace: svc.jobs, name: mail, instance_id: q-1 }
    health: degraded
`;

async function applying(fake: FakeDiscovery, text: string, flags: readonly string[] = []) {
  const ran = await waymark(["apply", "-f", "e.yaml", "-o", "json", "--server", fake.address, ...flags], { files: { "e.yaml": text } });
  // oxlint-disable-next-line typescript/no-unsafe-assignment -- the shape is what the test is about
  const result: Result = JSON.parse(ran.stdout);
  return { ...ran, result };
}

test("apply reads entries in the contract's words, and applying again changes nothing", async () => {
  const fake = await startFake();
  const first = await applying(fake, ENTRIES);
  expect(first.stderr).toBe("3 created, 0 updated, 0 removed, 0 unchanged\n");
  expect([...fake.entries.values()]).toMatchObject([
    { key: { namespace: "svc.jobs", kind: 4 }, health: 2 },
    { key: { name: "sum", instanceId: "f-1" }, ttl: { seconds: 30n }, detail: { case: "function", value: { version: "1.2.3" } } },
    { key: { name: "web" }, scope: 3, targets: [{ port: 8080 }], metadata: { team: "shop" } },
  ]);
  const again = await applying(fake, ENTRIES);
  expect(again.result.counts).toEqual({ create: 0, update: 0, move: 0, remove: 0, unchanged: 3 });
});

test("what is held alike at another node is told as moved: applying takes it to the node that is asked", async () => {
  const fake = await startFake();
  await applying(fake, ENTRIES);
  for (const [key, entry] of fake.entries) if (entry.key?.name === "web") fake.entries.set(key, { ...entry, nodeId: "another" });
  const dry = await applying(fake, ENTRIES, ["--dry-run"]);
  expect(dry.stderr).toBe("dry run, nothing was changed: 0 created, 0 updated, 1 moved from other nodes, 0 removed, 2 unchanged\n");
  const { result } = await applying(fake, ENTRIES);
  expect(result.counts).toEqual({ create: 0, update: 0, move: 1, remove: 0, unchanged: 2 });
  expect(result.changes.filter(({ action }) => action === "move")).toMatchObject([{ key: { name: "web" }, fields: [] }]);
  expect((await applying(fake, ENTRIES)).result.counts).toMatchObject({ move: 0, unchanged: 3 });
});

test("what a query prints, apply takes", async () => {
  const fake = await startFake();
  await applying(fake, ENTRIES);
  const { stdout } = await waymark(["discovery", "query", "-o", "json", "--server", fake.address]);
  // oxlint-disable-next-line typescript/no-unsafe-assignment -- the shape is what the test is about
  const { items } = JSON.parse(stdout);
  for (const text of [JSON.stringify(items), stdout]) {
    const { result } = await applying(fake, text, ["--dry-run"]);
    expect(result.counts).toEqual({ create: 0, update: 0, move: 0, remove: 0, unchanged: 3 });
  }
});

test("every problem of a file is told with its line, and nothing is applied", async () => {
  const fake = await startFake();
  const text = `entries:
  - key: { namespace: svc.market, name: web, instance_id: a }
    scop: zone
    tags: [ok, 7]
    targets:
      - host: 10.0.0.1
        port: eighty
      - hst: b
  - key: { namespace: Svc, name: web, instance_id: b }
  - key: { namespace: svc, name: web, instance_id: c }
    health: sick
    ttl: soon
  - 5
  - key: { namespace: svc, name: web, instance_id: d }
  - key: { namespace: svc, name: web, instance_id: d }
`;
  const { exit, result, stderr } = await applying(fake, text);
  expect(exit).toBe(1);
  expect(result.problems.map(({ line, message }) => `${line} ${message}`)).toEqual([
    "3 scop: unknown field; did you mean scope?",
    '4 tags: ["ok",7] is not a list of text (quote it)',
    '7 port: "eighty" is not a number in the range of the field',
    "8 hst: unknown field; did you mean host?",
    expect.stringMatching(/^9 key\.namespace: /),
    '11 health: "sick" is not one of healthy, degraded, critical, maintenance, orphaned',
    '12 ttl: "soon" is not a duration in seconds, such as "30s"',
    "13 5 is not an entry: expected an object with key, targets, and other fields",
    "15 has the same key as the entry on line 14",
  ]);
  expect(stderr).toContain("nothing was applied");
  expect(fake.calls).toEqual([]);
});

test("for a file with more than a thousand problems, the first thousand and the total number are reported", async () => {
  const fake = await startFake();
  const { result, stderr } = await applying(fake, "- 5\n".repeat(1200));
  expect(result.problems).toHaveLength(1000);
  expect(stderr.split("\n").filter((line) => line.includes("is not an entry"))).toHaveLength(1000);
  expect(stderr).toContain("200 more problems");
  expect(stderr).toContain("the input has 1200 problems");
});

test("an entry beyond its size is refused before it is sent", async () => {
  const fake = await startFake();
  const metadata = Object.fromEntries(Array.from({ length: 40 }, (_, n) => [`k${n}`, "x".repeat(1000)]));
  const { exit, stderr } = await applying(fake, JSON.stringify({ key: { namespace: "a", name: "b", instance_id: "c" }, metadata }));
  expect(exit).toBe(1);
  expect(stderr).toContain("more than the maximum of 30000");
});
