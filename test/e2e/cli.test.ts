import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, mkdtempSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { connect, follow } from "../../src/client/index.ts";
import { some } from "../fakes/effort.ts";
import { CommandProcess, type NodeProcess, onFreePorts, startNodeProcess, waymarkProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const MANIFEST = "docs/examples/online-boutique.yaml";
const folder = (): string => mkdtempSync(join(tmpdir(), "waymark-cli-"));

/** What the tests look at in the documents commands print. */
interface Printed {
  readonly event: string;
  readonly cursor: string;
  readonly items: readonly { readonly key: { readonly name: string } }[];
}

const json = (text: string): Printed => JSON.parse(text) as Printed;

test("serve prints one ready line on stdout, answers, and ends with exit code 0 on SIGTERM", async () => {
  await using node = await startNodeProcess(["--ephemeral", "--node-id", "n1", "--region", "eu"]);
  expect(node.nodeId).toBe("n1");
  expect(Object.keys(node.listeners)).toEqual(["grpc", "http", "dns", "fabric"]);
  const status = await node.run(["discovery", "status", "-o", "json"]);
  expect(json(status.stdout)).toMatchObject({ nodeId: "n1", region: "eu", listeners: node.listeners });
  const { exit, stdout } = await node.stop();
  expect(exit).toBe(0);
  expect(stdout.trimEnd().split("\n")).toHaveLength(1);
});

/** Names of fields at any depth, but for the keys of maps. */
function namesIn(value: unknown): readonly string[] {
  if (typeof value !== "object" || value === null) return [];
  if (Array.isArray(value)) return value.flatMap(namesIn);
  return Object.entries(value).flatMap(([name, item]) => [name, ...(["listeners", "metadata"].includes(name) ? [] : namesIn(item))]);
}

test("documents of commands and of HTTP routes have the names of protobuf's JSON", { tags: ["night"] }, async () => {
  await using node = await startNodeProcess(["--ephemeral", "--demo"]);
  const told = new Map<string, readonly string[]>();
  for (const path of ["/control/peers", "/discovery/lag", "/discovery/policy"])
    told.set(path, namesIn(await (await fetch(`http://${node.listeners["http"]}${path}`)).json()));
  for (const command of [
    ["discovery", "query"],
    ["discovery", "status"],
    ["discovery", "watch", "--until-synced", "--names-only"],
    ["discovery", "lag"],
    ["mesh", "peers", "list"],
    ["discovery", "policy"],
    ["report", "namespace-health"],
    ["audit", "verify"],
    ["import", "kubernetes", MANIFEST, "--dry-run"],
  ]) {
    const { stdout } = await node.run([...command, "-o", command.includes("watch") ? "yaml" : "json"]);
    told.set(command.join(" "), command.includes("watch") ? (stdout.match(/\w+(?=:)/g) ?? []) : namesIn(JSON.parse(stdout)));
  }
  for (const [what, names] of told)
    expect({ what, count: names.length > 2, snake: names.filter((name) => name.includes("_")) }).toEqual({ what, count: true, snake: [] });
  expect(told.get("discovery lag")).toContain("servedBy");
});

test.each(some([["version"], ["--version"], ["--help"], ["help"], ["help", "discovery"]]))(
  "%s %s loads nothing that it does not need",
  async (...argv) => {
    // Each file and package it loads, a line each.
    const hook = `import{registerHooks}from"node:module";import{writeSync}from"node:fs";registerHooks({resolve(s,c,n){const r=n(s,c);writeSync(2,r.url+"\\n");return r}})`;
    const node = spawnSync(process.execPath, ["--import", `data:text/javascript,${encodeURIComponent(hook)}`, "src/main.ts", ...argv], {
      encoding: "utf8",
    });
    expect(node.status).toBe(0);
    expect(node.stdout.length).toBeGreaterThan(5);
    const loaded = node.stderr.split("\n").filter((line) => line.startsWith("file:"));
    expect(loaded.some((line) => line.endsWith("/src/cli/run.ts"))).toBe(true);
    expect([...new Set(loaded.flatMap((line) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(line)?.[1] ?? []))]).toEqual(["commander"]);
    // The words of the kinds are choices of flags; their file loads nothing else.
    const others = loaded.filter((line) => !line.endsWith("/gen/waymark/catalog/v1/entry_kinds.ts"));
    expect(others.filter((line) => /\/gen\/|\/src\/(?:node|config|server|fabric|services)/.test(line))).toEqual([]);
  },
);

test("a taken port is told clearly, with exit code 1", { tags: ["night"] }, async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  const port = node.grpc.split(":")[1] ?? "";
  const { exit, stderr, stdout } = await waymarkProcess(["serve", "-o", "json", ...onFreePorts(["--ephemeral", "--grpc-port", port])]);
  expect(exit).toBe(1);
  expect(stderr).toContain(`address already in use: ${node.grpc}`);
  expect(stdout).toBe("");
});

/** What a watch of a namespace tells after a cursor: the events of changes, and the cursor behind them. The node's own entries change when they will. */
async function changesOf(node: NodeProcess, prefix: string, after: readonly string[] = []) {
  const { stdout } = await node.run(["discovery", "watch", "--prefix", prefix, "--until-synced", "-o", "json", ...after]);
  const events = stdout.trimEnd().split("\n").map(json);
  return { changes: events.slice(0, -1).map(({ event }) => event), cursor: events.at(-1)?.cursor ?? "" };
}

test("an import makes its deltas once; --prune removes only what this importer owns", { tags: ["night"] }, async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  await node.run(["register", "--namespace", "k8s.default", "--name", "byhand", "--instance", "1", "--target", "10.0.0.1:80"]);
  const dry = await node.run(["import", "kubernetes", MANIFEST, "--dry-run", "-o", "json"]);
  expect(json(dry.stdout)).toMatchObject({ applied: false, counts: { create: 20 } });
  const first = await node.run(["import", "kubernetes", MANIFEST, "-o", "json"]);
  expect(json(first.stdout)).toMatchObject({ applied: true, counts: { create: 20 } });
  const { changes, cursor } = await changesOf(node, "k8s");
  expect(changes).toHaveLength(21);
  const again = await node.run(["import", "kubernetes", "-", "-o", "json"], readFileSync(MANIFEST, "utf8"));
  expect(json(again.stdout)).toMatchObject({ counts: { create: 0, update: 0, remove: 0, unchanged: 20 } });
  // As the node's report of its own load does: the revision moves, and what was imported does not.
  await node.run(["register", "--namespace", "svc.other", "--name", "other", "--instance", "1", "--target", "10.0.0.1:80"]);
  expect((await changesOf(node, "k8s", ["--cursor", cursor])).changes).toEqual([]);
  const pruned = await node.run(
    ["import", "kubernetes", "-", "--prune", "-o", "json"],
    "apiVersion: v1\nkind: Service\nmetadata: { name: one }\nspec: {}\n",
  );
  expect(json(pruned.stdout)).toMatchObject({ counts: { create: 1, remove: 20 } });
  const left = json((await node.run(["discovery", "query", "--prefix", "k8s", "-o", "json"])).stdout);
  expect(left.items.map(({ key }) => key.name)).toEqual(["byhand", "one"]);
});

test("applying what a query printed changes nothing", { tags: ["night"] }, async () => {
  await using node = await startNodeProcess(["--ephemeral", "--demo"]);
  const { items } = json((await node.run(["discovery", "query", "--prefix", "k8s", "-o", "json"])).stdout);
  const file = join(folder(), "entries.json");
  writeFileSync(file, JSON.stringify(items));
  const { cursor } = await changesOf(node, "k8s");
  const applied = await node.run(["apply", "-f", file, "-o", "json"]);
  expect(json(applied.stdout)).toMatchObject({ counts: { create: 0, update: 0, unchanged: 20 } });
  expect((await changesOf(node, "k8s", ["--cursor", cursor])).changes).toEqual([]);
});

test("the demo catalog is there when the node is ready, also for DNS", async () => {
  await using node = await startNodeProcess(["--ephemeral", "--demo"]);
  const srv = await node.run(["dns", "resolve", "_svc._tcp.redis-cart.k8s.default.waymark", "SRV", "-o", "json"]);
  expect(json(srv.stdout)).toMatchObject({ answers: [expect.stringMatching(/^0 \d+ 6379 /)] });
  const soa = await node.run(["dns", "resolve", "waymark", "SOA", "-o", "json"]);
  expect(json(soa.stdout)).toMatchObject({ answers: [expect.stringMatching(/^\S+\.node\.waymark hostmaster\.waymark \d+ 60 30 3600 5$/)] });
  const resolved = await node.run(["discovery", "resolve", "redis-cart", "--namespace", "k8s.default", "-o", "json"]);
  expect(json(resolved.stdout)).toMatchObject({ target: { host: "10.20.0.20", port: 6379 } });
});

test("exit codes tell what happened, and stdout stays empty", async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  const cases = [
    { argv: ["discovery", "resolve", "nothing", "--namespace", "a.b"], exit: 5, says: "not_found" },
    {
      argv: ["unregister", "--namespace", "a.b", "--name", "x", "--instance", "y"],
      exit: 5,
      says: "nothing was removed: the entry a.b/x/y does not exist",
    },
    { argv: ["dns", "resolve", "nothing.a.b.waymark"], exit: 5, says: "NXDOMAIN" },
    { argv: ["register", "--namespace", "discovery.x", "--name", "x", "--instance", "y"], exit: 1, says: "reserved" },
    { argv: ["discovery", "query", "--page-token", "forged"], exit: 1, says: "page_token" },
    { argv: ["discovery", "query", "--limt", "1"], exit: 2, says: "--limit" },
  ];
  for (const { argv, exit, says } of cases) {
    const { stderr, ...ran } = await node.run(argv);
    expect({ argv, ...ran }).toEqual({ argv, exit, stdout: "" });
    expect(stderr).toContain(says);
  }
  await node.stop();
  expect(await node.run(["discovery", "status", "--timeout", "5s"])).toMatchObject({ exit: 3, stdout: "" });
});

test("register --keep outlives its ttl and unregisters when interrupted", { tags: ["night"] }, async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  const client = connect({ servers: [node.grpc] });
  const end = new AbortController();
  const flags = ["--namespace", "a.b", "--name", "kept", "--instance", "1", "--ttl", "5s", "--keep"];
  await using keeper = new CommandProcess(["register", ...flags, "--server", node.grpc]);
  let bookmarks = 0;
  for await (const event of follow(client, { namespace: "a.b", bookmarkInterval: durationFromMs(1000) }, { signal: end.signal })) {
    if (event.kind === "synced" && event.heldCount === 1) {
      bookmarks += 1;
      // Sixteen bookmarks a second apart: three ttls have passed. Once: a second interrupt would not wait for the goodbye.
      if (bookmarks === 16) keeper.kill("SIGINT");
    }
    if (event.kind === "remove") break;
  }
  expect(bookmarks).toBeGreaterThanOrEqual(16);
  expect((await keeper.finished()).exit).toBe(0);
  client.close();
});

test("a watch survives a restart of its server and tells each change once", { tags: ["night"] }, async () => {
  const data = folder();
  const flags = ["--data-dir", data];
  await using first = await startNodeProcess([...flags, "--demo"]);
  const port = first.grpc.split(":")[1] ?? "";
  await using watcher = new CommandProcess(["discovery", "watch", "--prefix", "k8s", "-o", "json", "--server", first.grpc]);
  await watcher.line(/"event":"synced"/);
  await first.stop("SIGKILL");
  await using second = await startNodeProcess([...flags, "--grpc-port", port]);
  await second.run(["register", "--namespace", "k8s.default", "--name", "late", "--instance", "1"]);
  await watcher.line(/"name":"late"/);
  watcher.kill("SIGTERM");
  const { exit, stdout } = await watcher.finished();
  expect(exit).toBe(0);
  const events = stdout.trimEnd().split("\n").map(json);
  expect(events.filter(({ event }) => event === "create")).toHaveLength(21);
  expect(events.filter(({ event }) => event === "remove" || event === "update")).toEqual([]);
});

test("labels of node ids come from the DNS room", async () => {
  const { stdout } = await waymarkProcess(["dns", "node-encode", "Node:7"]);
  expect(stdout).toMatch(/^b32-[a-z2-7]+\n$/);
  expect((await waymarkProcess(["dns", "node-decode", stdout.trim()])).stdout).toBe("Node:7\n");
});

/** A file of entries with a kilobyte of metadata each; those named have a tag that is too long for a node with short names. */
function entryFile(count: number, wrong: readonly number[] = []): string {
  const file = join(folder(), "many.json");
  const entries = Array.from({ length: count }, (_, i) => ({
    key: { kind: "SERVICE", namespace: "svc.many", name: "web", instance_id: `w${i}` },
    metadata: { note: "x".repeat(1000) },
    tags: [wrong.includes(i) ? "a-tag-of-more-than-sixteen" : "short"],
  }));
  writeFileSync(file, `[${entries.map((entry) => JSON.stringify(entry)).join(",\n")}]\n`);
  return file;
}

test.each(["max_request_entries = 7", 'max_request_bytes = "64KiB"'])(
  "apply, import, its removals and the demo take as many requests as a node with %s needs",
  { tags: ["night"] },
  async (limit) => {
    const settings = join(folder(), "node.toml");
    writeFileSync(settings, `[limits]\n${limit}\n`);
    await using node = await startNodeProcess(["--ephemeral", "--demo", "--config", settings]);
    const applied = await node.run(["apply", "-f", entryFile(300)]);
    expect(applied.stderr).toContain("300 created, 0 updated, 0 removed, 0 unchanged\n");
    expect(await node.run(["import", "kubernetes", MANIFEST])).toMatchObject({ exit: 0 });
    const none = join(folder(), "none.yaml");
    writeFileSync(none, "");
    const pruned = await node.run(["import", "kubernetes", none, "--prune", "--allow-empty"]);
    expect(pruned.stderr).toContain("20 removed");
  },
);

test("an entry that the node refuses is told by its line in the file, whichever request it was in", { tags: ["night"] }, async () => {
  const settings = join(folder(), "node.toml");
  writeFileSync(settings, "[limits]\nmax_name_length = 16\n");
  await using node = await startNodeProcess(["--ephemeral", "--config", settings]);
  const file = entryFile(2500, [2300]);
  const { exit, stderr } = await node.run(["apply", "-f", file]);
  expect(exit).toBe(1);
  expect(stderr).toContain(`${file}:2301: tags[0]: `);
});

test.each([
  { what: "a device without an end", path: "/dev/zero", says: "cannot read --file /dev/zero: the file is larger than 16777216 bytes" },
  { what: "a directory", path: tmpdir(), says: `cannot read --file ${tmpdir()}: it is a directory` },
])("$what is no file to apply", async ({ path, says }) => {
  const { exit, stderr } = await waymarkProcess(["apply", "--file", path]);
  expect({ exit, stderr }).toEqual({ exit: 2, stderr: expect.stringContaining(says) as string });
});

/** A named pipe that is there already, and its end for writing: it cannot be had until somebody reads. */
async function writerOf(pipe: string): Promise<number> {
  let end = -1;
  await until(`${pipe} is read`, () => {
    end = openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK);
    return true;
  });
  return end;
}

test("a command reads a named pipe to its end, and ends at a signal while nobody writes to it", async () => {
  const [entries, settings] = [join(folder(), "entries.yaml"), join(folder(), "settings.toml")];
  for (const pipe of [entries, settings]) expect(spawnSync("mkfifo", [pipe]).status).toBe(0);
  await using reader = new CommandProcess(["apply", "--file", entries]);
  const end = await writerOf(entries);
  writeSync(end, "entries: [");
  closeSync(end);
  expect((await reader.finished()).stderr).toContain(`${entries}:1: Flow sequence`);
  await using node = new CommandProcess(["serve", "--ephemeral", "--config", settings]);
  const silent = await writerOf(settings);
  node.kill("SIGTERM");
  const { exit, stderr } = await node.finished();
  closeSync(silent);
  expect({ exit, stderr }).toEqual({ exit: 2, stderr: expect.stringContaining("interrupted") as string });
});

test("a second signal ends a command immediately, also one whose server never answers", async () => {
  const silent = createServer(() => {}).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const { port } = silent.address() as AddressInfo;
  try {
    await using command = new CommandProcess(["discovery", "query", "--server", `127.0.0.1:${port}`]);
    await once(silent, "connection");
    // Two signals of the same kind can arrive as one.
    command.kill("SIGTERM");
    command.kill("SIGINT");
    expect([130, 143]).toContain((await command.finished()).exit);
  } finally {
    silent.close();
  }
});
