/** The package made by `npm run pack` runs without our sources, and what the API page calls "later" is so. */

import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, expect, test } from "vitest";
import { mustRun, ROOT, run } from "../../scripts/run.ts";
import { onFreePorts, startNodeProcess, WAYMARK } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const folders: string[] = [];
const children: ChildProcess[] = [];

afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

function temporary(): string {
  const folder = mkdtempSync(join(tmpdir(), "waymark-package-"));
  folders.push(folder);
  return folder;
}

const PLAIN = ["serve", "-o", "json", "--log-level", "error", ...onFreePorts([])];
const SERVE = [...PLAIN, "--ephemeral"];

/** Starts a node and resolves with the address of its HTTP edge, once it is ready. */
async function startNode(command: string, args: readonly string[], cwd: string): Promise<string> {
  return (await startListeners(command, args, cwd)).http;
}

/** As `startNode`, with the addresses of all its listeners. */
async function startListeners(
  command: string,
  args: readonly string[],
  cwd: string,
): Promise<{ readonly http: string; readonly grpc: string }> {
  const child = spawn(command, args, { cwd, stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  for await (const line of createInterface({ input: child.stdout })) {
    const said = JSON.parse(line) as { event: string; listeners: { http: string; grpc: string } };
    if (said.event === "ready") return said.listeners;
  }
  throw new Error(`${command} ${args.join(" ")} ended before it was ready`);
}

/** A project that has the package among its dependencies; built once. */
let project: Promise<string> | undefined;
function projectWithPackage(): Promise<string> {
  project ??= installPackage();
  return project;
}

async function installPackage(): Promise<string> {
  const folder = temporary();
  await mustRun("node", ["scripts/build.ts"]);
  await mustRun("npm", ["pack", "--ignore-scripts", "--pack-destination", folder]);
  const archive = readdirSync(folder).find((name) => name.endsWith(".tgz")) ?? "";
  await mustRun("tar", ["-xzf", archive], { cwd: folder });
  const home = join(folder, "node_modules", "waymark");
  mkdirSync(join(folder, "node_modules"));
  renameSync(join(folder, "package"), home);
  // As npm would lay them out beside it, without fetching them again.
  for (const name of readdirSync(join(ROOT, "node_modules")))
    symlinkSync(join(ROOT, "node_modules", name), join(folder, "node_modules", name));
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }));
  return folder;
}

test("the packed package starts a node with all its threads from compiled JavaScript alone", async () => {
  const folder = await projectWithPackage();
  const home = join(folder, "node_modules", "waymark");
  expect(existsSync(join(home, "src"))).toBe(false);
  const argv = [...PLAIN, "--data-dir", join(folder, "data"), "--workers", "1", "--demo"];
  const { http, grpc } = await startListeners(join(home, "bin/waymark"), argv, folder);
  for (const path of ["readyz", "openapi.json"]) expect((await fetch(`http://${http}/${path}`)).status).toBe(200);
  const said = await mustRun(join(home, "bin/waymark"), ["discovery", "query", "--server", grpc, "-o", "json"], { cwd: folder });
  expect(JSON.parse(said)).toHaveProperty("items");
});

const USER_PROGRAM = `
import { connect, EntryKind, RequestError, type Entry } from "waymark";
import { PolicyService } from "waymark/gen/waymark/policy/v1/policy_pb.js";
import { resolveNamesBy } from "waymark/grpc";

const client = connect({ servers: [process.argv[2] ?? ""] });
const { leaseId } = await client.discovery.register({
  entries: [{ key: { kind: EntryKind.SERVICE, namespace: "svc.market", name: "web", instanceId: "1" }, targets: [{ host: "10.0.0.1", port: 80 }] }],
});
const page = await client.discovery.catalogQuery({ namespace: "svc.market" });
const names: readonly string[] = page.items.map((entry: Entry) => entry.key?.name ?? "");
let first = "";
for await (const message of client.discovery.catalogWatch({ namespace: "svc.market" })) {
  first = message.$typeName;
  break;
}
const refused = await client.discovery.register({ entries: [{}] }).catch((error: unknown) => (error instanceof RequestError ? error.facts.code : "other"));
const { method } = PolicyService;
console.log(JSON.stringify({ hasLease: leaseId !== "", names, first, refused, rpc: method.explain.name, peers: typeof client.peers.list, grpc: typeof resolveNamesBy }));
client.close();
`;

/** The Node of the machine, which may be as old as the README allows; ours where there is no other. */
function machinesNode(): string {
  const ways = (process.env["PATH"] ?? "").split(delimiter).filter((folder) => !folder.includes("node_modules"));
  return ways.map((folder) => join(folder, "node")).find((file) => existsSync(file)) ?? process.execPath;
}

test("a program that imports the package compiles with its types, and calls a node", async () => {
  const folder = await projectWithPackage();
  const compilerOptions = { module: "nodenext", target: "es2024", strict: true, types: ["node"], outDir: "out", skipLibCheck: false };
  writeFileSync(join(folder, "user.ts"), USER_PROGRAM);
  // What the guide shows compiles too.
  const guideOf = (page: string) => readFileSync(join(ROOT, `docs/guides/${page}.md`), "utf8");
  const [, shown = ""] = /^```typescript\n(.*?)^```$/ms.exec(guideOf("client-setup")) ?? [];
  expect(shown).toContain('from "waymark"');
  const others = ["client", "client-clusters", "grpc-names", "shards"].flatMap((page) => {
    const found = [...guideOf(page).matchAll(/^```typescript\n(.*?)^```$/gms)];
    expect(found.length).toBeGreaterThan(0);
    return found;
  });
  expect(others.length).toBeGreaterThan(5);
  const pieces = [shown, ...others.map(([, text = ""]) => text)].map((text, i) => ({ name: `guide-${i}.ts`, text }));
  for (const { name, text } of pieces) writeFileSync(join(folder, name), text);
  const files = ["user.ts", ...pieces.map(({ name }) => name)];
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
  await mustRun("tsc", ["-p", folder]);
  const { grpc } = await startListeners(WAYMARK, SERVE, ROOT);
  const said = await mustRun("node", [join(folder, "out", "user.js"), grpc], { cwd: folder });
  expect(JSON.parse(said)).toEqual({
    hasLease: true,
    names: ["web"],
    first: "waymark.discovery.v1.CatalogWatchResponse",
    refused: "INVALID_ARGUMENT",
    rpc: "Explain",
    peers: "function",
    grpc: "function",
  });
});

/** The numbers of the last report of the example program. */
function lastReport(lines: readonly string[]) {
  const match = lines.findLast((line) => line.startsWith("found "))?.match(/^found (\d+), failed (\d+), (stale|current)/);
  return { found: Number(match?.[1] ?? 0), failed: Number(match?.[2] ?? 0), freshness: match?.[3] ?? "" };
}

test("the example program looks up while its server is killed and comes back, without a failed lookup", { tags: ["night"] }, async () => {
  const folder = await projectWithPackage();
  const program = join(folder, "lookups.ts");
  cpSync(join(ROOT, "docs/examples/client/lookups.ts"), program);
  const data = temporary();
  const serve = (...flags: readonly string[]) => startNodeProcess(["--data-dir", data, "--node-id", "example", ...flags]);
  let node = await serve();
  const port = node.grpc.split(":").at(-1) ?? "";
  const child = spawn(process.execPath, [program, node.grpc], { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line));
  try {
    await until("it looks up", () => lastReport(lines).found > 50);
    await node.stop("SIGKILL");
    await until("its map is stale", () => lastReport(lines).freshness === "stale");
    const { found } = lastReport(lines);
    await until("it goes on", () => lastReport(lines).found > found + 50);
    node = await serve("--grpc-port", port);
    await until("its map is current", () => lastReport(lines).freshness === "current");
    child.kill("SIGINT");
    await once(child, "exit");
    expect([lastReport(lines).failed, child.exitCode, lines.at(-1)]).toEqual([0, 0, "registration: closed"]);
  } finally {
    await node[Symbol.asyncDispose]();
  }
});

test("the example that kills all its servers under traffic ends well: no lookup fails, and nothing comes back by a snapshot", {
  tags: ["night"],
}, async () => {
  const folder = await projectWithPackage();
  const program = join(folder, "outage.ts");
  cpSync(join(ROOT, "docs/examples/client/outage.ts"), program);
  const child = spawn(process.execPath, [program], { cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line));
  try {
    const [code] = (await once(child, "exit")) as [number];
    const account = lines.map((line) => line.replaceAll(/\d+(?= lookups)/g, "N"));
    expect({ code, account }).toEqual({
      code: 0,
      account: [
        "three nodes and a resolver are running",
        "5 instances are registered, and the map shows them",
        "before: N lookups so far, 0 failed",
        "all nodes killed: N lookups so far, 0 failed",
        "the resolver also killed, the map is stale and has 5: N lookups so far, 0 failed",
        "all servers started again, the map is current and has 6: N lookups so far, 0 failed",
        "snapshots since the first one: 0",
      ],
    });
  } finally {
    // Its servers end with it.
    child.kill("SIGTERM");
  }
});

test("a program on an older Node is told which it needs, and not which function is missing", async () => {
  const node = machinesNode();
  const version = await mustRun(node, ["--version"]);
  const folder = await projectWithPackage();
  const { code, output } = await run(
    node,
    ["--input-type=module", "--eval", 'import { connect } from "waymark"; connect({ servers: ["127.0.0.1:1"] });'],
    { cwd: folder },
  );
  const isOld = Number(/^v(\d+)/.exec(version)?.[1]) < 24;
  expect(code).toBe(isOld ? 1 : 0);
  expect(output).toContain(isOld ? `waymark needs Node.js 24 or newer; this is ${version.trim()}` : "");
});

test("the package brings its protos for other languages, and its pages link to what is in it", async () => {
  const home = join(await projectWithPackage(), "node_modules", "waymark");
  expect(existsSync(join(home, "proto/waymark/discovery/v1/discovery.proto"))).toBe(true);
  for (const file of ["buf/validate/validate.proto", "google/api/field_behavior.proto"])
    expect(existsSync(join(home, "third_party/proto", file))).toBe(true);
  // The guide's `inputs` name the package's folder; it says itself where its protos begin.
  await mustRun("buf", ["build", home, "-o", "/dev/null"]);
  const pages = (readdirSync(home, { recursive: true }) as string[]).filter((file) => file.endsWith(".md"));
  const links = pages.flatMap((page) =>
    [...readFileSync(join(home, page), "utf8").matchAll(/\]\((?![a-z]+:)([^)#\s]+)/g)].map(([, link = ""]) => ({ page, link })),
  );
  expect(links.filter(({ page }) => page === "README.md").length).toBeGreaterThan(10);
  expect(links.filter(({ page, link }) => !existsSync(join(home, dirname(page), link)))).toEqual([]);
});

test("an install by the lockfile, as the guide and the Dockerfile have it, runs without tools and without install scripts", {
  tags: ["night"],
}, async () => {
  const archive = join(await projectWithPackage(), readdirSync(await projectWithPackage()).find((name) => name.endsWith(".tgz")) ?? "");
  const home = temporary();
  await mustRun("tar", ["-xzf", archive, "-C", home, "--strip-components=1"]);
  cpSync(join(ROOT, "package-lock.json"), join(home, "package-lock.json"));
  await mustRun("npm", ["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"], { cwd: home });
  expect(existsSync(join(home, "node_modules", "node"))).toBe(false);
  expect(await mustRun(join(home, "bin", "waymark"), ["--version"])).toMatch(/^waymark \d/);
});

test("npm in a checkout warns of no engine: what runs is the Node of the dependencies", { tags: ["night"] }, async () => {
  const home = temporary();
  // As an old Node would find ours.
  writeFileSync(join(home, "package.json"), JSON.stringify({ name: "late", version: "1.0.0", engines: { node: ">=999" } }));
  // Who runs the tests by `npm run --silent` has told every npm below to say nothing.
  const install = ["-u", "npm_config_loglevel", "npm", "install", "--dry-run", "--no-audit"];
  const warned = async () => (await run("env", install, { cwd: home })).output;
  expect(await warned()).toContain("EBADENGINE");
  cpSync(join(ROOT, ".npmrc"), join(home, ".npmrc"));
  expect(await warned()).not.toContain("EBADENGINE");
});

/** Full name and whether the page says "later", for every unary rpc of docs/reference/api.md. */
function documentedRpcs(): readonly { readonly path: string; readonly isLater: boolean }[] {
  let [area, service] = ["", ""];
  return readFileSync(join(ROOT, "docs/reference/api.md"), "utf8")
    .split("\n")
    .flatMap((line) => {
      area = /^## (waymark\.\S+)/.exec(line)?.[1] ?? area;
      service = /^### (\w+Service)$/.exec(line)?.[1] ?? service;
      const rpc = /^\| `(\w+)` \| `\w+` → `\w+` \| /.exec(line);
      return rpc === null ? [] : [{ path: `${area}.${service}/${rpc[1]}`, isLater: line.includes(" | **later** ") }];
    });
}

test("an rpc answers UNIMPLEMENTED exactly when the API page says that it comes later", async () => {
  // A node that knows no key of a cluster has no summaries, and says so.
  const config = join(temporary(), "node.json");
  const publicKey = generateKeyPairSync("ed25519").publicKey.export({ type: "spki", format: "der" }).subarray(-32).toString("base64");
  writeFileSync(config, JSON.stringify({ summary: { keys: [{ cluster_id: "us1", region: "us", public_key: publicKey }] } }));
  const address = await startNode(WAYMARK, [...SERVE, "--config", config], ROOT);
  // FabricService is spoken between nodes only: the edge does not serve it at all.
  const rpcs = documentedRpcs().filter(({ path }) => !path.includes(".FabricService/"));
  expect(rpcs.length).toBeGreaterThan(25);
  const wrong: string[] = [];
  for (const { path, isLater } of rpcs) {
    const response = await fetch(`http://${address}/${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: "{}",
      signal: AbortSignal.timeout(60_000),
    });
    const answer = (await response.json()) as { code?: string; message?: string };
    if ((answer.code === "unimplemented") !== isLater)
      wrong.push(`${path} answers ${answer.code ?? "a response"}; the page says ${isLater ? "later" : "now"}`);
    if (isLater && answer.message?.startsWith("unimplemented: ") !== true) wrong.push(`${path} says ${answer.message}`);
  }
  expect(wrong).toEqual([]);
});

interface Sbom {
  readonly bomFormat: string;
  readonly metadata: { readonly component: { readonly name: string } };
  readonly components: readonly {
    readonly name: string;
    readonly hashes?: readonly { readonly alg: string; readonly content: string }[];
  }[];
}

test("the bill of materials of a release names every library that production installs, with its hash, and no tool", {
  tags: ["night"],
}, async () => {
  const folder = temporary();
  await mustRun("node", ["scripts/sbom.ts", folder]);
  const [file = ""] = readdirSync(folder);
  expect(file).toMatch(/^waymark-\d+\.\d+\.\d+\.cdx\.json$/);
  const { bomFormat, metadata, components } = JSON.parse(readFileSync(join(folder, file), "utf8")) as Sbom;
  expect([bomFormat, metadata.component.name]).toEqual(["CycloneDX", "waymark"]);
  const names = components.map(({ name }) => name);
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { readonly dependencies: object };
  expect(names).toEqual(expect.arrayContaining(Object.keys(dependencies)));
  expect(names.filter((name) => ["node", "typescript", "vitest"].includes(name))).toEqual([]);
  expect(components.filter(({ hashes = [] }) => !hashes.some(({ alg }) => alg === "SHA-512"))).toEqual([]);
});
