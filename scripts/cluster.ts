/**
 * A local cluster of real nodes to play with: `npm run cluster -- --nodes 5`. Prints where each can be reached; Ctrl-C stops
 * them all. Nodes are named n1, n2, …; all join by the first.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { ROOT } from "./run.ts";

const USAGE = `npm run cluster -- [--nodes 3] [--base-port 0] [--data DIR] [--cluster-id local] [--region local] [--log-level warn] [-- serve flags]

  --nodes N        how many (1 to 50)
  --base-port P    node i listens on P+10i (gRPC), +1 (fabric), +2 (HTTP), +3 (DNS); 0: any free ports
  --data DIR       keep data in DIR/n1, DIR/n2, …; without it in a folder that is removed at the end
`;
const MAX_NODES = 50;
const STOP_MS = 15_000;

interface Started {
  readonly name: string;
  readonly child: ChildProcess;
  readonly listeners: Readonly<Record<string, string>>;
}

const { values, positionals } = parsed();

function parsed() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        nodes: { type: "string", default: "3" },
        "base-port": { type: "string", default: "0" },
        data: { type: "string" },
        "cluster-id": { type: "string", default: "local" },
        region: { type: "string", default: "local" },
        "log-level": { type: "string", default: "warn" },
        help: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    return wrong(error instanceof Error ? (error.message.split(". ", 1)[0] ?? "") : String(error));
  }
}

function wrong(why: string): never {
  console.error(`${why}\n\n${USAGE}`);
  process.exit(2);
}

function number(name: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  return wrong(`--${name} must be ${min} to ${max}, is ${text}`);
}

function portsOf(basePort: number, i: number): readonly string[] {
  const port = (offset: number) => String(basePort === 0 ? 0 : basePort + 10 * i + offset);
  return ["--grpc-port", port(0), "--fabric-port", port(1), "--http-port", port(2), "--dns-port", port(3)];
}

/** The token that the nodes show each other, in a file that only this user reads; made when it is not there. */
function tokenFile(data: string): string {
  mkdirSync(data, { recursive: true });
  const path = join(data, "fabric.token");
  if (!existsSync(path)) writeFileSync(path, `${randomBytes(32).toString("base64url")}\n`, { mode: 0o600 });
  return path;
}

/** Starts a node and waits for its ready line. */
async function start(name: string, flags: readonly string[]): Promise<Started> {
  const child = spawn(process.execPath, [join(ROOT, "src/main.ts"), "serve", "-o", "json", "--node-id", name, ...flags], {
    stdio: ["ignore", "pipe", "inherit"],
    // Ctrl-C reaches the whole terminal group: the nodes are stopped by us, in order.
    detached: true,
  });
  const lines = createInterface({ input: child.stdout });
  const ended = once(child, "exit").then(([code]) => {
    throw new Error(`node ${name} ended with ${String(code)} before it was ready`);
  });
  ended.catch(() => undefined);
  const line: unknown = (await Promise.race([once(lines, "line"), ended]))[0];
  const ready = JSON.parse(String(line)) as { readonly listeners: Readonly<Record<string, string>> };
  return { name, child, listeners: ready.listeners };
}

async function stop({ child }: Started): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  await ended;
  clearTimeout(timer);
}

function show(nodes: readonly Started[]): void {
  const rows = nodes.map(({ name, child, listeners }) => [name, String(child.pid), ...LISTENERS.map((each) => listeners[each] ?? "-")]);
  const head = ["NODE", "PID", "gRPC", "HTTP", "DNS", "FABRIC"];
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  for (const row of [head, ...rows])
    console.log(
      row
        .map((stored, i) => stored.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd(),
    );
  const server = nodes[0]?.listeners["grpc"] ?? "";
  console.log(`
try, in another terminal:
  ./bin/waymark discovery peers --server ${server}
  ./bin/waymark register --namespace svc.market --name web --instance web-1 --target 10.0.0.1:8080/http --server ${server}
  ./bin/waymark discovery watch --prefix svc --server ${nodes.at(-1)?.listeners["grpc"] ?? ""}
  kill -9 ${nodes.at(-1)?.child.pid ?? ""}    # and look at the peers again

Ctrl-C stops all.`);
}

const LISTENERS = ["grpc", "http", "dns", "fabric"] as const;

async function main(): Promise<void> {
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const count = number("nodes", values.nodes, 1, MAX_NODES);
  const basePort = number("base-port", values["base-port"], 0, 65_000);
  const data = values.data ?? mkdtempSync(join(tmpdir(), "waymark-cluster-"));
  const interrupted = Promise.race([once(process, "SIGINT"), once(process, "SIGTERM")]);
  const common = ["--cluster-id", values["cluster-id"], "--region", values.region, "--log-level", values["log-level"], ...positionals];
  const token = ["--cluster-token-file", tokenFile(data)];
  const flagsOf = (i: number) => [...token, "--data-dir", join(data, `n${i + 1}`), ...portsOf(basePort, i), ...common];
  const nodes: Started[] = [];
  try {
    const first = await start("n1", flagsOf(0));
    nodes.push(first);
    const seed = first.listeners["fabric"] ?? "";
    const others = Array.from({ length: count - 1 }, async (_, i) => {
      nodes.push(await start(`n${i + 2}`, [...flagsOf(i + 1), "--join", seed]));
    });
    // All of them, so that those that did start are stopped when one did not.
    const failed = (await Promise.allSettled(others)).find((each) => each.status === "rejected");
    if (failed !== undefined) throw failed.reason;
    nodes.sort((a, b) => Number(a.name.slice(1)) - Number(b.name.slice(1)));
    show(nodes);
    await interrupted;
  } finally {
    console.log("\nstopping");
    await Promise.all(nodes.map(stop));
    if (values.data === undefined) rmSync(data, { recursive: true, force: true });
  }
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
