/** The package made by `npm run pack` runs without our sources, and what the API page calls "later" is so. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, expect, test } from "vitest";
import { mustRun, ROOT } from "../../scripts/run.ts";

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

const SERVE = [
  "serve",
  "--ephemeral",
  "--grpc-port",
  "0",
  "--http-port",
  "0",
  "--dns-port",
  "0",
  "--fabric-port",
  "0",
  "-o",
  "json",
  "--log-level",
  "error",
];

/** Starts a node and resolves with the address of its HTTP edge, once it is ready. */
async function startNode(command: string, args: readonly string[], cwd: string): Promise<string> {
  const child = spawn(command, args, { cwd, stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  for await (const line of createInterface({ input: child.stdout })) {
    const said = JSON.parse(line) as { event: string; listeners: { http: string } };
    if (said.event === "ready") return said.listeners.http;
  }
  throw new Error(`${command} ${args.join(" ")} ended before it was ready`);
}

test("the packed package starts a node from compiled JavaScript alone", async () => {
  const folder = temporary();
  await mustRun("node", ["scripts/build.ts"]);
  await mustRun("npm", ["pack", "--ignore-scripts", "--pack-destination", folder]);
  const [archive = ""] = readdirSync(folder);
  await mustRun("tar", ["-xzf", archive], { cwd: folder });
  const home = join(folder, "package");
  symlinkSync(join(ROOT, "node_modules"), join(home, "node_modules"));
  expect(existsSync(join(home, "src"))).toBe(false);
  const address = await startNode(join(home, "bin/waymark"), [...SERVE, "--demo"], folder);
  expect((await fetch(`http://${address}/readyz`)).status).toBe(200);
}, 120_000);

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
  const address = await startNode("node", ["src/main.ts", ...SERVE], ROOT);
  // FabricService is spoken between nodes only: the edge does not serve it at all.
  const rpcs = documentedRpcs().filter(({ path }) => !path.includes(".FabricService/"));
  expect(rpcs.length).toBeGreaterThan(25);
  const wrong: string[] = [];
  for (const { path, isLater } of rpcs) {
    const response = await fetch(`http://${address}/${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: "{}",
      signal: AbortSignal.timeout(10_000),
    });
    const answer = (await response.json()) as { code?: string; message?: string };
    if ((answer.code === "unimplemented") !== isLater)
      wrong.push(`${path} answers ${answer.code ?? "a response"}; the page says ${isLater ? "later" : "now"}`);
    if (isLater && answer.message?.startsWith("unimplemented: ") !== true) wrong.push(`${path} says ${answer.message}`);
  }
  expect(wrong).toEqual([]);
}, 60_000);
