/**
 * How far an act goes through the house: the own files and functions that a live node enters for one query, for one answer over DNS, and for
 * one registration until another node shows it; and the chain of calls from a received frame until its record is visible. The bound of the
 * chain counts from the call that gives the frame to the fabric. Before that call there are bytes of a stream, and inputs of a node; the
 * length of the whole chain is printed too. `npm run ways` starts two real nodes, counts calls with V8's precise coverage, and fails above the
 * bounds. A file counts when one of its functions is called for at least every second act. What timers call beside the acts is
 * subtracted: the nodes are left alone for as long as the acts took, and the calls of that time do not count.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { Resolver } from "node:dns/promises";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { DiscoveryService } from "../gen/waymark/discovery/v1/discovery_pb.js";
import { type Client, connect, follow } from "../src/client/index.ts";
import { ROOT } from "./run.ts";

const ACTS = 200;
/** Own files that may be entered; undefined where no bound is set. */
const BOUNDS: Readonly<Record<string, number | undefined>> = { query: 25, dns: undefined, register: 60 };

/** From the call that gives a frame to the fabric until its record is visible. */
const CHAIN = { calls: 8, files: 6 } as const;
/** The method that is given the frame. */
const GIVEN = { file: "src/fabric/fabric.ts", method: "handle" } as const;

interface FunctionCoverage {
  readonly functionName: string;
  readonly ranges: readonly { readonly startOffset: number; readonly count: number }[];
}

interface ScriptCoverage {
  readonly url: string;
  readonly functions: readonly FunctionCoverage[];
}

interface Message {
  readonly id?: number;
  readonly result?: unknown;
  readonly method?: string;
  readonly params?: unknown;
}

/** The inspector of a process, over its WebSocket. */
class Inspector {
  /** Of scripts by their id, while the debugger is on. */
  readonly urls = new Map<string, string>();
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (result: unknown) => void>();
  #last = 0;
  #paused: ((paused: Paused) => void) | undefined;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => {
      const { id, result, method, params } = JSON.parse(String(data)) as Message;
      if (id !== undefined) this.#waiting.get(id)?.(result);
      if (method === "Debugger.scriptParsed") {
        const { scriptId, url } = params as { readonly scriptId: string; readonly url: string };
        this.urls.set(scriptId, url);
      }
      if (method === "Debugger.paused") this.#paused?.(params as Paused);
    });
  }

  static async open(url: string): Promise<Inspector> {
    const socket = new WebSocket(url);
    await once(socket, "open");
    return new Inspector(socket);
  }

  /** Rejects never: the process is ours and on this machine. */
  ask(method: string, params: object = {}): Promise<unknown> {
    const id = ++this.#last;
    const { promise, resolve } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, resolve);
    this.#socket.send(JSON.stringify({ id, method, params }));
    return promise;
  }

  /** The stack where the process stops the next time. It stays stopped. */
  nextStop(): Promise<Paused> {
    return new Promise((resolve) => {
      this.#paused = resolve;
    });
  }

  close(): void {
    this.#socket.close();
  }
}

/** Where a record that came from another node becomes visible. */
const VISIBLE = { file: "src/catalog/replica/replica.ts", method: "install" } as const;

interface CallFrame {
  readonly functionName: string;
  /** Of a call that the debugger stopped in. */
  readonly location?: { readonly scriptId: string };
  /** Of a call that began the stopped ones. */
  readonly scriptId?: string;
}

interface StackTrace {
  readonly callFrames: readonly CallFrame[];
  readonly parent?: StackTrace;
}

interface Paused {
  readonly callFrames: readonly CallFrame[];
  readonly asyncStackTrace?: StackTrace;
}

interface Node {
  readonly child: ChildProcess;
  readonly inspector: Inspector;
  readonly listeners: Readonly<Record<string, string>>;
}

async function startNode(id: string, data: string, join_: readonly string[]): Promise<Node> {
  const flags = ["serve", "-o", "json", "--node-id", id, "--data-dir", join(data, id), "--log-level", "error", ...join_];
  const ports = ["--grpc-port", "0", "--http-port", "0", "--dns-port", "0", "--fabric-port", "0"];
  const child = spawn(process.execPath, ["--inspect=127.0.0.1:0", join(ROOT, "src/main.ts"), ...flags, ...ports], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const address = Promise.withResolvers<string>();
  createInterface({ input: child.stderr }).on("line", (line) => {
    const [, url] = /^Debugger listening on (ws:\S+)/.exec(line) ?? [];
    if (url !== undefined) address.resolve(url);
    else if (!/^For help|^Debugger attached/.test(line)) console.error(`${id}: ${line}`);
  });
  const ready = Promise.withResolvers<Node["listeners"]>();
  createInterface({ input: child.stdout }).once("line", (line) => {
    ready.resolve((JSON.parse(line) as { readonly listeners: Node["listeners"] }).listeners);
  });
  child.once("exit", (code) => ready.reject(new Error(`${id} ended with ${code} before it was ready`)));
  return { child, listeners: await ready.promise, inspector: await Inspector.open(await address.promise) };
}

/** Own file, then function (its place in the file and its name) to the calls since the last time this was asked. */
type Calls = ReadonlyMap<string, ReadonlyMap<string, number>>;

async function callsOf({ inspector }: Node): Promise<Calls> {
  const { result } = (await inspector.ask("Profiler.takePreciseCoverage")) as { readonly result: readonly ScriptCoverage[] };
  const files = new Map<string, ReadonlyMap<string, number>>();
  for (const { url, functions } of result) {
    if (!url.startsWith("file:")) continue;
    const file = relative(ROOT, fileURLToPath(url));
    if (!file.startsWith("src/")) continue;
    files.set(
      file,
      new Map(functions.map(({ functionName, ranges }) => [`${ranges[0]?.startOffset} ${functionName}`, ranges[0]?.count ?? 0])),
    );
  }
  return files;
}

/** Own files, each with its functions that were called at least `times` more often than while nothing was done. */
function entered(acting: Calls, idle: Calls, times: number): ReadonlyMap<string, readonly string[]> {
  const files = new Map<string, readonly string[]>();
  for (const [file, functions] of acting) {
    const beside = idle.get(file);
    const called = [...functions].filter(([name, count]) => count - (beside?.get(name) ?? 0) >= times);
    if (called.length > 0)
      files.set(
        file,
        called.map(([name]) => name.slice(name.indexOf(" ") + 1)),
      );
  }
  return files;
}

/** Does an act many times, and tells what all nodes together enter for one. */
async function measure(nodes: readonly Node[], act: (i: number) => Promise<unknown>): Promise<ReadonlyMap<string, readonly string[]>> {
  for (let i = 0; i < ACTS; i++) await act(i);
  const taken = () => Promise.all(nodes.map((node) => callsOf(node)));
  await taken();
  const begunMs = performance.now();
  for (let i = 0; i < ACTS; i++) await act(ACTS + i);
  const acting = await taken();
  await sleep(performance.now() - begunMs);
  const idle = await taken();
  const files = new Map<string, readonly string[]>();
  for (const [at, calls] of acting.entries())
    for (const [file, called] of entered(calls, idle[at] ?? new Map(), ACTS / 2)) files.set(file, [...(files.get(file) ?? []), ...called]);
  return files;
}

/** Own calls from what woke the process until a record of another node is visible, the last first, each with its file. */
async function chainOf({ inspector }: Node, act: () => Promise<unknown>): Promise<readonly (readonly [string, string])[]> {
  const lines = readFileSync(join(ROOT, VISIBLE.file), "utf8").split("\n");
  const lineNumber = lines.findIndex((line) => line.startsWith(`  ${VISIBLE.method}(`));
  if (lineNumber < 0) throw new Error(`${VISIBLE.file} has no method ${VISIBLE.method}`);
  await inspector.ask("Debugger.enable");
  await inspector.ask("Debugger.setAsyncCallStackDepth", { maxDepth: 8 });
  const stop = inspector.nextStop();
  // The line after the signature: breakpoints on a signature stop nowhere.
  await inspector.ask("Debugger.setBreakpointByUrl", { lineNumber: lineNumber + 1, urlRegex: `${VISIBLE.file.replaceAll(".", "\\.")}$` });
  const acted = act();
  const { callFrames, asyncStackTrace } = await stop;
  await inspector.ask("Debugger.disable");
  await acted;
  const frames = [...callFrames];
  for (let trace = asyncStackTrace; trace !== undefined; trace = trace.parent) frames.push(...trace.callFrames);
  const fileOf = ({ location, scriptId }: CallFrame): string => {
    const url = inspector.urls.get(location?.scriptId ?? scriptId ?? "") ?? "";
    return url.startsWith("file:") ? relative(ROOT, fileURLToPath(url)) : "";
  };
  const own = frames.map((frame) => [frame.functionName, fileOf(frame)] as const);
  return own.filter(([, file]) => file.startsWith("src/"));
}

const key = (i: number) => ({ kind: 1, namespace: "svc.ways", name: `web${i % 10}`, instanceId: String(i) });

function register(client: Client, i: number): Promise<unknown> {
  const entries = [{ key: key(i), targets: [{ host: "10.0.0.1", port: 80 }] }];
  return client.call(DiscoveryService.method.register, { entries, staticLease: true });
}

interface Ways {
  /** Act to the own files it enters, each with the functions. */
  readonly acts: Readonly<Record<string, ReadonlyMap<string, readonly string[]>>>;
  readonly chain: readonly (readonly [string, string])[];
}

async function waysOf([a, b]: readonly [Node, Node]): Promise<Ways> {
  const writer = connect({ servers: [a.listeners["grpc"] ?? ""], findServers: false });
  const reader = connect({ servers: [b.listeners["grpc"] ?? ""], findServers: false });
  const shown = new Map<string, () => void>();
  const stop = new AbortController();
  const following = (async () => {
    for await (const event of follow(reader, { namespacePrefix: "svc.ways" }, { signal: stop.signal })) {
      if (event.kind === "put") shown.get(event.entry.key?.instanceId ?? "")?.();
    }
  })();
  const registerAndSee = async (i: number): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    shown.set(String(i), resolve);
    await register(writer, i);
    await promise;
  };
  const registered = await measure([a, b], (i) => registerAndSee(i));
  const chain = await chainOf(b, () => registerAndSee(2 * ACTS));
  const { name, namespace } = key(0);
  const query = await measure([a], () => writer.call(DiscoveryService.method.catalogQuery, { namespace, names: [name], limit: 10 }));
  const [host = "", port = ""] = (a.listeners["dns"] ?? "").split(":");
  const resolver = new Resolver();
  resolver.setServers([`${host}:${port}`]);
  const dns = await measure([a], () => resolver.resolveSrv(`_svc._tcp.${name}.${namespace}.waymark`));
  stop.abort();
  await following.catch(() => {});
  writer.close();
  reader.close();
  return { acts: { query, dns, register: registered }, chain };
}

const { values } = parseArgs({ options: { files: { type: "boolean", default: false } } });
const data = mkdtempSync(join(tmpdir(), "waymark-ways-"));
const started: Node[] = [];
try {
  const a = await startNode("a", data, []);
  started.push(a);
  const b = await startNode("b", data, ["--join", a.listeners["fabric"] ?? ""]);
  started.push(b);
  for (const { inspector } of started) {
    await inspector.ask("Profiler.enable");
    await inspector.ask("Profiler.startPreciseCoverage", { callCount: true, detailed: false });
  }
  const { acts, chain } = await waysOf([a, b]);
  for (const [act, files] of Object.entries(acts)) {
    const bound = BOUNDS[act];
    console.log(`${act}: ${files.size} own files${bound === undefined ? "" : `, at most ${bound}`}`);
    if (values.files)
      for (const [file, called] of [...files].toSorted(([x], [y]) => x.localeCompare(y))) console.log(`  ${file}: ${called.join(" ")}`);
    if (bound !== undefined && files.size > bound) process.exitCode = 1;
  }
  const given = chain.findIndex(([called, file]) => called === GIVEN.method && file === GIVEN.file);
  if (given < 0) throw new Error(`no frame came through ${GIVEN.file}: ${GIVEN.method}`);
  const fromFabric = chain.slice(0, given + 1);
  const filesOf = (calls: Ways["chain"]) => new Set(calls.map(([, file]) => file)).size;
  const [calls, files] = [fromFabric.length, filesOf(fromFabric)];
  console.log(`frame: ${calls} calls through ${files} files, at most ${CHAIN.calls} through ${CHAIN.files}`);
  console.log(`frame, from its bytes on: ${chain.length} calls through ${filesOf(chain)} files`);
  if (values.files) for (const [called, file] of chain.toReversed()) console.log(`  ${file}: ${called}`);
  if (calls > CHAIN.calls || files > CHAIN.files) process.exitCode = 1;
} finally {
  for (const { inspector, child } of started.toReversed()) {
    inspector.close();
    child.kill("SIGTERM");
    await once(child, "exit");
  }
  rmSync(data, { recursive: true, force: true });
}
