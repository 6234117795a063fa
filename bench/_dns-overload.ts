/** Whether the memory of a node stays as it is while DNS asks for more than it can answer. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { changing, dnsperf, NAMES, namesBytes, questionFile, questionsOf } from "./_dns.ts";
import { startOurs } from "./_dns-turns.ts";
import { onServerCore } from "./_processes.ts";
import { type Goal, round, spread } from "./_results.ts";

/** As many as can be answered, times this, are asked at least: with fewer the goals have no verdict. */
export const OVERLOAD = 3;
/** dnsperf has 65,536 questions under way at most. It gives each up so soon that it sends 200,000 a second beside those that are answered, if it can. */
export const FLOODING = { underWay: 50_000, lostAfterSeconds: 0.25, sockets: 16 } as const;
/** Programs that want all of the server's core: it has a third of it, so that dnsperf can ask three times as much as is answered. */
const NEIGHBOURS = 2;

export interface Overloaded {
  readonly mib: readonly number[];
  /** As many were asked as were answered, times this. */
  readonly times: number;
  readonly seconds: number;
}

/** Changes a tenth of the entries a minute, so that their answers change. */
export function changingTenth(node: Parameters<typeof changing>[0]): ReturnType<typeof changing> {
  const changed = (i: number) => namesBytes([(i * 7) % NAMES], { port: 8081 + (i % 1000) });
  return changing(node, NAMES / 10 / 60, changed);
}

async function startNeighbour(): Promise<ChildProcess> {
  const [command, args] = onServerCore(process.execPath, [join(import.meta.dirname, "_busy-child.ts"), "1"]);
  // It ends when this process does, which its channel tells it.
  const child = spawn(command, args, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  await once(child, "message");
  return child;
}

/** Resident memory while more is asked than can be answered and 10 % of the entries change a minute. */
export async function overloaded(seconds: number): Promise<Overloaded> {
  const ours = await startOurs();
  const file = questionFile(questionsOf());
  const neighbours: ChildProcess[] = [];
  try {
    for (let i = 0; i < NEIGHBOURS; i++) neighbours.push(await startNeighbour());
    const end = await changingTenth(ours.running);
    const mib: number[] = [];
    const timer = setInterval(() => mib.push(ours.running.rssKiB() / 1024), 1000);
    const { sent, answered } = await dnsperf(ours, file, { seconds, ...FLOODING });
    clearInterval(timer);
    await end();
    return { mib, times: sent / answered, seconds };
  } finally {
    for (const child of neighbours) child.kill();
    await ours.running.stop();
  }
}

/** A goal of overload: without a verdict where less was asked. */
export function ifOverloaded(goal: Goal, times: number): Goal {
  if (goal.value === undefined || times >= OVERLOAD) return goal;
  const seen = `${round(goal.value)} ${goal.unit}, but dnsperf could send only ${round(times)} × as many queries as were answered`;
  return { ...goal, value: undefined, note: goal.note === undefined ? seen : `${seen}; ${goal.note}` };
}

export function memoryGoal({ mib, times, seconds }: Overloaded): Goal {
  const third = Math.floor(mib.length / 3);
  const [middle, last] = [spread(mib.slice(third, 2 * third)).median, spread(mib.slice(2 * third)).median];
  const goal: Goal = {
    name: "memory in the last third of a time of overload over that in the middle third",
    value: last / middle,
    unit: "×",
    atMost: 1.05,
    note: `${round(times)} × as many queries as were answered; the node shared its core with ${NEIGHBOURS} programs that use all of it; ${round(last)} MiB`,
    shown: {
      work: `memory while ${OVERLOAD} × as many DNS queries arrive as can be answered and 10 % of the entries change per minute, ${seconds} s`,
      beside: "the same node earlier",
      unit: "MiB resident",
      ours: last,
      theirs: middle,
      oursName: "last third",
      theirsName: "middle third",
    },
  };
  return ifOverloaded(goal, times);
}
