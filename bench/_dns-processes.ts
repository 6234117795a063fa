/** DNS in processes of its own: how much two answer beside one, when a process shows a change, and what gRPC has of a process that is asked more than it can answer. */
import { execFileSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { decode, encode } from "dns-packet";
import { type DnsServer, dnsperf, dnsSettings, loadNames, NAMES, namesBytes, questionFile, questionsOf, ZONE } from "./_dns.ts";
import { changingTenth, FLOODING, ifOverloaded, OVERLOAD } from "./_dns-overload.ts";
import type { Lengths } from "./_dns-turns.ts";
import { sleep } from "./_mesh.ts";
import { hasTool, listenerOf, type Node, neighbourShare, startNode } from "./_processes.ts";
import { cellText, type Goal, percentile, quiet, ratioGoal, ratioOf, round, spread } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { exactQuery, NAMESPACE, PATH } from "./_work.ts";

/** Two processes and dnsperf want a core each, and the node another. */
const CORES = 4;
const CHANGES = 300;
/** A change that is not seen by then never is. */
const LOST_MS = 5000;
const CALLS_PER_SECOND = 500;
/** A node takes 128 calls on a connection at a time. */
const MAX_UNDER_WAY = 100;
/** Of dnsperf beside the process, as `nice` has it: the process has its own, and dnsperf a larger part of their core, so that it can ask for more than is answered. */
const ASKING_PRIORITY = -5;
/** A quiet time lasts so much of the time of overload: long enough for a p99 of thousands of calls. */
const QUIET_PART = 1 / 60;

interface Calls {
  readonly quiet: readonly number[];
  readonly loaded: readonly number[];
  /** As many were asked as the process answered, times this. */
  readonly times: number;
  readonly seconds: number;
}

export interface Measured {
  /** Questions a second of one process and of two; a text says why not. */
  readonly scaled: { readonly one: readonly number[]; readonly two: readonly number[] } | string;
  /** From `Register`'s answer to the first DNS answer of a process that shows the change. */
  readonly seenMs: readonly number[];
  readonly seenBeside: number;
  /** p99 of each round. */
  readonly calls: Calls | string;
  /** Of the node's core, meanwhile. */
  readonly calledBeside: number;
}

async function start(count: number, isFree = false): Promise<DnsServer & { readonly running: Node }> {
  const node = await startNode({ args: ["--config", dnsSettings({ processes: count })], isFree, isPlain: true });
  await loadNames(node);
  return { who: `Waymark with ${count} processes`, at: listenerOf(node, "dns"), running: node };
}

/** `overloadSeconds`: how long a process is asked more than it can answer. */
export async function processes({ rounds, seconds, overloadSeconds }: Lengths & { readonly overloadSeconds: number }): Promise<Measured> {
  const file = questionFile(questionsOf());
  const scaled = await scaling({ rounds, seconds, file });
  const server = await start(1);
  await dnsperf(server, file, { seconds });
  let seenMs: readonly number[] = [];
  const seenBeside = await neighbourShare([server.running, ...childrenOf(server.running)], async () => {
    seenMs = await seeing(server);
  });
  let calls: Measured["calls"] = "not measured";
  const calledBeside = await neighbourShare([server.running], async () => {
    calls = await calling(server, { rounds, seconds, overloadSeconds, file });
  });
  await server.running.stop();
  return { scaled, seenMs, seenBeside, calls, calledBeside };
}

async function scaling(load: { readonly rounds: number; readonly seconds: number; readonly file: string }): Promise<Measured["scaled"]> {
  if (cpus().length < CORES)
    return `not measured: it needs ${CORES} cores, two of them for the processes, and this machine has ${cpus().length}`;
  const servers = [await start(1, true), await start(2, true)] as const;
  const told: number[][] = [[], []];
  for (let r = 0; r <= load.rounds; r++)
    for (const [i, server] of servers.entries()) {
      // Sockets are shared out among the processes by their source, so there are many.
      const { perSecond } = await dnsperf(server, load.file, { seconds: load.seconds, sockets: 64, underWay: 800 });
      // The first round warms them up.
      if (r > 0) told[i]?.push(perSecond);
    }
  for (const { running } of servers) await running.stop();
  return { one: told[0] ?? [], two: told[1] ?? [] };
}

/** Registers another port, and asks until the answer has it. */
async function seeing({ at, running }: DnsServer): Promise<readonly number[]> {
  const wire = await Wire.open(running.grpc);
  const socket = createSocket("udp4");
  const question = (n: number) =>
    encode({ type: "query", id: n, questions: [{ name: `_svc._tcp.service-${n}.${NAMESPACE}.${ZONE}`, type: "SRV" }] });
  const portOf = (message: Buffer) => {
    const [answer] = decode(message).answers ?? [];
    return answer?.type === "SRV" ? answer.data.port : 0;
  };
  const tookMs: number[] = [];
  for (let i = 0; i < CHANGES; i++) {
    const [n, port] = [(i * 7) % NAMES, 9000 + i];
    await wire.unary(PATH.register, namesBytes([n], { port }));
    const startMs = performance.now();
    for (let told = 0; told !== port; ) {
      if (performance.now() - startMs > LOST_MS) throw new Error("a DNS process does not show a change");
      const answered = once(socket, "message", { signal: AbortSignal.timeout(LOST_MS) });
      socket.send(question(n), at.port, at.host);
      const [message] = (await answered) as [Buffer];
      told = portOf(message);
    }
    tookMs.push(performance.now() - startMs);
  }
  socket.close();
  wire.close();
  return tookMs;
}

/**
 * How long gRPC calls take while nobody asks DNS, and while dnsperf asks for more than can be answered and 10 % of the entries change a minute. The node is alone on its
 * core. The process stands beside dnsperf and who calls, which goes before both: what is measured is the node's time and not how long the caller waits for its core.
 */
async function calling(
  server: DnsServer & { readonly running: Node },
  { rounds, seconds, overloadSeconds, file }: Lengths & { readonly overloadSeconds: number; readonly file: string },
): Promise<Measured["calls"]> {
  if (!hasTool("taskset")) return "not measured: taskset is wanted";
  for (const { pid } of childrenOf(server.running)) execFileSync("taskset", ["-a", "-p", "-c", "1", String(pid)], { stdio: "ignore" });
  if (!mayGoFirst()) return "not measured: the caller could not go before dnsperf on their core, for which chrt needs root";
  const quietSeconds = Math.max(seconds, Math.round(overloadSeconds * QUIET_PART));
  const [still, loaded]: [number[], number[]] = [[], []];
  const quietRounds = async (count: number) => {
    for (let r = 0; r < count; r++) still.push(percentile(await callsMs(server.running, quietSeconds), 0.99));
  };
  try {
    await callsMs(server.running, seconds);
    await quietRounds(Math.ceil(rounds / 2));
    const end = await changingTenth(server.running);
    const load = { seconds: overloadSeconds + 1, ...FLOODING, priority: ASKING_PRIORITY };
    const asked = dnsperf(server, file, load);
    await sleep(500);
    for (let r = 0; r < rounds; r++) loaded.push(percentile(await callsMs(server.running, overloadSeconds / rounds), 0.99));
    const { sent, answered } = await asked;
    await end();
    await quietRounds(Math.floor(rounds / 2));
    return { quiet: still, loaded, times: sent / answered, seconds: overloadSeconds };
  } finally {
    execFileSync("chrt", ["-a", "-o", "-p", "0", String(process.pid)], { stdio: "ignore" });
  }
}

/** Puts this process, but not what it starts, before all others on its core. */
function mayGoFirst(): boolean {
  try {
    execFileSync("chrt", ["-a", "--reset-on-fork", "-f", "-p", "1", String(process.pid)], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** At an even rate. A call that had to wait for a place counts from when it was due. */
async function callsMs(node: Node, seconds: number): Promise<readonly number[]> {
  const wire = await Wire.open(node.grpc);
  const tookMs: number[] = [];
  const startMs = performance.now();
  const underWay = new Set<Promise<unknown>>();
  for (let i = 0; i < seconds * CALLS_PER_SECOND; i++) {
    const dueMs = startMs + (i * 1000) / CALLS_PER_SECOND;
    if (performance.now() < dueMs) await sleep(dueMs - performance.now());
    const mustWait = underWay.size >= MAX_UNDER_WAY;
    while (underWay.size >= MAX_UNDER_WAY) await Promise.race(underWay);
    const begunMs = mustWait ? dueMs : performance.now();
    const call: Promise<unknown> = wire
      .unary(PATH.query, exactQuery(i % NAMES))
      .then(() => tookMs.push(performance.now() - begunMs))
      .finally(() => underWay.delete(call));
    underWay.add(call);
  }
  await Promise.all(underWay);
  wire.close();
  return tookMs;
}

/** The processes that a node has started. */
function childrenOf({ pid }: Node): readonly { readonly pid: number; cpuMs(): number }[] {
  const pids = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number);
  return pids.map((child) => ({ pid: child, cpuMs: () => cpuMsOf(child) }));
}

/** Ticks of user and system time are the 14th and 15th words, counted behind the name in brackets. */
function cpuMsOf(pid: number): number {
  const words = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(words[11]) + Number(words[12])) * 10;
}

export function processGoals({ scaled, seenMs, seenBeside, calls, calledBeside }: Measured): readonly Goal[] {
  const both = typeof scaled === "string" ? undefined : scaled;
  const seen = "a change in a DNS process: time from Register's answer until a DNS answer shows it, p99";
  return [
    ratioGoal({
      name: "DNS questions a second with two processes over those with one",
      shown: {
        work: "DNS answers a second with `dns.processes` 2",
        beside: "`dns.processes` 1",
        unit: "queries a second",
        isMoreBetter: true,
        oursName: "two processes",
        theirsName: "one process",
      },
      ratio: both && ratioOf(both.two, both.one),
      ours: both && spread(both.two),
      theirs: both && spread(both.one),
      atLeast: 1.7,
      ...(typeof scaled === "string" && { missing: scaled }),
    }),
    quiet(
      {
        name: seen,
        value: percentile(seenMs, 0.99),
        unit: "ms",
        atMost: 20,
        note: `${cellText(CHANGES)} changes one after the other; the median took ${cellText(percentile(seenMs, 0.5))} ms`,
        shown: { work: seen, unit: "ms", ours: percentile(seenMs, 0.99) },
      },
      seenBeside,
    ),
    quiet(callsGoal(calls), calledBeside),
  ];
}

function callsGoal(calls: Measured["calls"]): Goal {
  const called = typeof calls === "string" ? undefined : calls;
  const goal = ratioGoal({
    name: "p99 of gRPC calls while a DNS process is asked more than it can answer, over that in quiet times",
    shown: {
      work: `p99 of ${cellText(CALLS_PER_SECOND)} catalog queries a second while a DNS process receives ${OVERLOAD} × the queries that it can answer and 10 % of the entries change per minute`,
      beside: "the same node in a quiet period",
      unit: "ms",
      oursName: "meanwhile",
      theirsName: "quiet",
    },
    ratio: called && ratioOf(called.loaded, called.quiet),
    ours: called && spread(called.loaded),
    theirs: called && spread(called.quiet),
    atMost: 1.5,
    note:
      called &&
      `${called.seconds} s; ${round(called.times)} × as many queries as were answered; the client has priority over the process and dnsperf on their core (SCHED_FIFO)`,
    ...(typeof calls === "string" && { missing: calls }),
  });
  return called === undefined ? goal : ifOverloaded(goal, called.times);
}
