/** What many opened and closed watches, registrations, clients and channels leave behind: in their own process, in a node and in a resolver. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { ROOT } from "../../scripts/run.ts";
import type { Held } from "./memory.ts";
import { type NodeProcess, startNodeProcess } from "./node-process.ts";
import { until } from "./until.ts";

interface Looks {
  readonly before: Held;
  readonly after: Held;
}

export interface Leftovers {
  readonly clients: Looks;
  readonly node: Looks;
  readonly resolver: Looks;
}

/** Most bytes of heap that are there more than before. */
export interface Growth {
  readonly clientBytes: number;
  readonly serverBytes: number;
}

/** Loads the module that tells memory into the process of a server, whose id stays its own. */
const TELLING = ["env", `NODE_OPTIONS=--import=${join(ROOT, "test/fakes/memory-child.ts")}`];
/** Of timers and of connections between the servers, which come and go. */
const SPARE_HANDLES = 2;

/** `warmRounds` come before the first look: what is made once, compiled code among it, is there after so many. */
export async function leftoversOf(rounds: number, warmRounds: number): Promise<Leftovers> {
  await using node = await startNodeProcess(["--ephemeral"], TELLING);
  const mode = ["--mode", "resolver", "--upstream", node.grpc, "--namespaces", "svc.leak"];
  await using resolver = await startNodeProcess(["--ephemeral", ...mode], TELLING);
  const child = fork(join(ROOT, "test/fakes/busy-clients-child.ts"), [node.grpc, resolver.grpc], { execArgv: ["--expose-gc"] });
  try {
    const clients = await heldAfter(child, warmRounds);
    const before = { clients, node: await heldIn(node), resolver: await heldIn(resolver) };
    const looks = { before: before.clients, after: await heldAfter(child, rounds) };
    return { clients: looks, node: await leftIn(node, before.node), resolver: await leftIn(resolver, before.resolver) };
  } finally {
    child.kill("SIGKILL");
  }
}

/** What is there that was not there before, one line each. */
export function faultsOf({ clients, node, resolver }: Leftovers, { clientBytes, serverBytes }: Growth): readonly string[] {
  const faults = (who: string, { before, after }: Looks, most: number): readonly string[] => [
    ...(after.heapBytes - before.heapBytes > most ? [`${who}: heap from ${before.heapBytes} to ${after.heapBytes} bytes`] : []),
    ...(after.externalBytes - before.externalBytes > most
      ? [`${who}: buffers from ${before.externalBytes} to ${after.externalBytes} bytes`]
      : []),
    ...(handlesOf(after) > handlesOf(before) + SPARE_HANDLES
      ? [`${who}: handles from ${JSON.stringify(before.handles)} to ${JSON.stringify(after.handles)}`]
      : []),
  ];
  return [...faults("clients", clients, clientBytes), ...faults("node", node, serverBytes), ...faults("resolver", resolver, serverBytes)];
}

async function heldAfter(child: ChildProcess, rounds: number): Promise<Held> {
  child.send(rounds);
  const ended = once(child, "exit").then(([code]) => {
    throw new Error(`the process of the clients ended with ${String(code)}`);
  });
  const [told] = (await Promise.race([once(child, "message"), ended])) as [Held];
  return told;
}

/** Waits for the ends of connections: their clients are gone a moment sooner. Fails with what is open when they do not come. */
async function leftIn(server: NodeProcess, before: Held): Promise<Looks> {
  let after = before;
  const isQuiet = async () => {
    after = await heldIn(server);
    return handlesOf(after) <= handlesOf(before) + SPARE_HANDLES
      ? []
      : [`${JSON.stringify(before.handles)} became ${JSON.stringify(after.handles)}`];
  };
  await until("the connections of all clients have ended", isQuiet);
  return { before, after };
}

/** Asks a server, which says it on a line of its own. */
async function heldIn({ command }: NodeProcess): Promise<Held> {
  const { length } = linesOf(command.stderr);
  command.kill("SIGUSR2");
  let line: string | undefined;
  await until("the server says what it holds", () => {
    line = linesOf(command.stderr)[length];
    return line !== undefined;
  });
  return JSON.parse(line ?? "") as Held;
}

function linesOf(stderr: string): readonly string[] {
  return [...stderr.matchAll(/^HELD (.*)\n/gm)].map(([, told = ""]) => told);
}

/** Sockets, timers and their kin. What runs at once is none: it is gone in a moment. */
function handlesOf({ handles }: Held): number {
  return Object.entries(handles).reduce((sum, [kind, count]) => (kind === "Immediate" ? sum : sum + count), 0);
}
