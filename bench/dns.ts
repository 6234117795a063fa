/**
 * What does a DNS answer cost? 1,000 names of three instances, A and SRV mixed, 1,000 policy rules, two views, one core for the server and dnsperf on the other, each server
 * asked as fast as dnsperf can: beside CoreDNS, Knot and a bare node:dgram socket; while names change; while others ask for names that do not exist; in processes of its
 * own; and whether memory stays as it is for ten minutes of more questions than can be answered.
 * `npm run bench -- dns [--rounds 7] [--seconds 3] [--memory-seconds 600] [--only peers,changes,flood,processes,memory]`; it takes about ten minutes, and
 * ten more for the memory.
 */
import { argsOf, asksForAll } from "./_args.ts";
import { changing, dnsperf, INSTANCES, type Loaded, NAMES, namesBytes, questionFile, questionsOf } from "./_dns.ts";
import { type Flooded, flooded } from "./_dns-flood.ts";
import { besidePeers, peerGoals, peerRows } from "./_dns-peers.ts";
import { processes, processGoals } from "./_dns-processes.ts";
import { inTurns, perCpuSecond, type Rounds, rowsOf, startOurs } from "./_dns-turns.ts";
import { sleep } from "./_mesh.ts";
import { hasDnsperf } from "./_peers.ts";
import { pinSelf } from "./_processes.ts";
import { cellText, type Goal, ratioGoal, ratioOf, report, round, spread } from "./_results.ts";

const PARTS = ["peers", "changes", "flood", "processes", "memory"] as const;
const DEFAULTS = { rounds: 7, seconds: 3, "memory-seconds": 600, only: PARTS };
const values = argsOf(DEFAULTS);
const unknown = values.only.filter((part) => !PARTS.some((each) => each === part));
if (unknown.length > 0) {
  console.error(`dns: there is no part ${unknown.join(", ")}; there are: ${PARTS.join(", ")}`);
  process.exit(2);
}
/** In which each of the 100,000 questions is asked at least once, so that its plan is made: dnsperf goes through its file in order. */
const WIDE_WARM_SECONDS = 15;
/** Names whose questions are more than the plans of 1,000 names: two questions each. */
const WIDE_NAMES = 50_000;
/** Of the names that are asked for: one in a hundred. */
const CHANGED_NAMES_PER_SECOND = NAMES / 100;
const ELSEWHERE_PER_SECOND = 1000;

// ---- while something changes ----
type Meanwhile = "quiet" | "changing" | "elsewhere" | "wide";

interface Changed {
  readonly loaded: Partial<Rounds<Meanwhile>>;
  /** Of the core that the registrations of changes elsewhere take without a question. */
  readonly registering: number;
  readonly notes: readonly string[];
}

async function whileChanging(): Promise<Changed> {
  const [ours, wide] = [await startOurs(), await startOurs(WIDE_NAMES)];
  const file = questionFile(questionsOf());
  // Another port, so that the answer is another one.
  const changed = (i: number) => namesBytes([(i * 7) % NAMES], { port: 8081 + (i % 1000) });
  const other = (i: number) => namesBytes([i % 300], { namespace: "svc.other", version: i });
  const elsewhere = () => changing(ours.running, ELSEWHERE_PER_SECOND / INSTANCES, other);
  const loaded = await inTurns<Meanwhile>(
    {
      quiet: { server: ours, file },
      changing: { server: ours, file, beside: () => changing(ours.running, CHANGED_NAMES_PER_SECOND, changed) },
      elsewhere: { server: ours, file, beside: elsewhere },
      wide: { server: wide, file: questionFile(questionsOf(WIDE_NAMES)), warmSeconds: WIDE_WARM_SECONDS },
    },
    values,
  );
  const [beforeMs, startMs, end] = [ours.running.cpuMs(), performance.now(), await elsewhere()];
  await sleep(values.seconds * 1000);
  await end();
  const registering = (ours.running.cpuMs() - beforeMs) / (performance.now() - startMs);
  for (const each of [ours, wide]) await each.running.stop();
  return {
    loaded,
    registering,
    notes: [
      `Changes elsewhere are ${ELSEWHERE_PER_SECOND} entries a second of another namespace, registered at this node in messages of ${INSTANCES}. That takes ${round(registering * 100)} % of the core without a question, which the goal leaves out and the table does not. Names that change do so in their port, ${CHANGED_NAMES_PER_SECOND} a second with all their instances.`,
    ],
  };
}

/** What questions alone cost, where the server takes `registering` of the core for something else. */
function withoutRegistering(rounds: readonly Loaded[] | undefined, registering: number): readonly Loaded[] {
  return (rounds ?? []).map((each) => ({ ...each, cpuUs: each.cpuUs * (1 - registering / each.share) }));
}

function changeGoals({ loaded, registering }: Changed): readonly Goal[] {
  const still = perCpuSecond(loaded.quiet);
  const goal = (work: string, rounds: readonly Loaded[] | undefined) => {
    const ours = perCpuSecond(rounds);
    return ratioGoal({
      name: `DNS queries a CPU-second ${work}, over those of quiet times`,
      shown: {
        work: `DNS answers ${work}`,
        beside: "the same node in quiet times",
        unit: "queries a CPU-second",
        isMoreBetter: true,
        oursName: "meanwhile",
        theirsName: "quiet",
      },
      ratio: ratioOf(ours, still),
      ours: spread(ours),
      theirs: spread(still),
      atLeast: 0.9,
    });
  };
  return [
    goal("while 1 % of the names change a second", loaded.changing),
    goal(`while ${cellText(ELSEWHERE_PER_SECOND)} entries a second change elsewhere`, withoutRegistering(loaded.elsewhere, registering)),
    goal(`to ${cellText(2 * WIDE_NAMES)} different questions`, loaded.wide),
  ];
}

// ---- memory ----
interface Memory {
  readonly mib: readonly number[];
  readonly times: number;
}

/** Resident memory while more is asked than can be answered and 10 % of the entries change a minute, after a third of the time. */
async function memory(): Promise<Memory> {
  const ours = await startOurs();
  const file = questionFile(questionsOf());
  const changed = (i: number) => namesBytes([(i * 7) % NAMES], { port: 8081 + (i % 1000) });
  const end = await changing(ours.running, NAMES / 10 / 60, changed);
  const mib: number[] = [];
  const timer = setInterval(() => mib.push(ours.running.rssKiB() / 1024), 1000);
  const load = { seconds: values["memory-seconds"], underWay: 100_000, sockets: 16 };
  const { sent, answered } = await dnsperf(ours, file, load);
  clearInterval(timer);
  await end();
  await ours.running.stop();
  return { mib, times: sent / answered };
}

function memoryGoal({ mib, times }: Memory): Goal {
  const third = Math.floor(mib.length / 3);
  const [middle, last] = [spread(mib.slice(third, 2 * third)).median, spread(mib.slice(2 * third)).median];
  return {
    name: "memory in the last third of a time of overload over that in the middle third",
    value: last / middle,
    unit: "×",
    atMost: 1.05,
    note: `${round(times)} × as many questions as were answered, as many as dnsperf can send; ${round(last)} MiB`,
    shown: {
      work: `memory while DNS questions come as fast as dnsperf sends them and 10 % of the entries change a minute, ${values["memory-seconds"]} s`,
      beside: "the same node a while before",
      unit: "MiB resident",
      ours: last,
      theirs: middle,
      oursName: "last third",
      theirsName: "middle third",
    },
  };
}

function floodGoal(told: Flooded | string): Goal {
  const name = "good DNS questions that are answered beside random names from 10,000 networks";
  if (typeof told === "string") return { name, value: undefined, unit: "%", atLeast: 99, note: told };
  const note = `${cellText(round(told.floodPerSecond))} random names a second beside ${cellText(round(told.goodPerSecond))} good questions; the node took ${round(told.share)} of a core`;
  // One process sends all of it, and may be too slow for that.
  if (told.floodPerSecond < 0.9 * 50_000)
    return {
      name,
      value: undefined,
      unit: "%",
      atLeast: 99,
      note: `${round(told.answeredShare * 100)} % were answered beside too few: ${note}`,
    };
  const work = `good DNS questions that are answered, ${cellText(5000)} a second beside ${cellText(50_000)} random names a second from ${cellText(10_000)} networks`;
  return {
    name,
    value: told.answeredShare * 100,
    unit: "%",
    atLeast: 99,
    note,
    shown: { work, unit: "% answered", isMoreBetter: true, ours: told.answeredShare * 100 },
  };
}

pinSelf();
if (!hasDnsperf()) {
  console.error("dns: dnsperf is not on the path, so nothing can be measured");
  process.exit(1);
}
const has = (part: (typeof PARTS)[number]) => values.only.includes(part);
const peers = has("peers") ? await besidePeers(values) : undefined;
const changes = has("changes") ? await whileChanging() : undefined;
const flood = has("flood") ? await flooded(Math.min(10, values.seconds * 3)) : undefined;
const inProcesses = has("processes") ? await processes(values) : undefined;
const kept = has("memory") ? await memory() : undefined;
report({
  name: "dns",
  isKept: asksForAll(values, DEFAULTS),
  tables: {
    ...(peers && { "an answer, each server asked as fast as dnsperf can": peerRows(peers) }),
    ...(changes && { "an answer while something changes": rowsOf(changes.loaded) }),
  },
  goals: [
    ...(peers ? peerGoals(peers) : []),
    ...(changes ? changeGoals(changes) : []),
    ...(flood === undefined ? [] : [floodGoal(flood)]),
    ...(inProcesses === undefined ? [] : processGoals(inProcesses)),
    ...(kept ? [memoryGoal(kept)] : []),
  ],
  notes: [
    ...(peers?.notes ?? []),
    ...(changes?.notes ?? []),
    "CoreDNS adds NS records and compresses no name of an answer that fits without. It is measured with `file` alone, which makes each answer anew, and with its `cache` before it, which keeps them as we keep ours. CoreDNS and Knot answer in the same order each time; we draw one. The bare socket's answers are as long as ours, and it uses its socket as we do.",
    'dnsperf has 400 questions under way and one core. It cannot fill Knot\'s: "of a core" says how much of it was used. CPU time a packet is less where more come together, so Knot at less than 90 % of its core costs more than it need, and has no verdict.',
    "Knot and dnsperf are those of the system's packages, which may be some years old; CoreDNS is a current one. The versions stand above.",
  ],
});
