/**
 * What does a DNS answer cost? 1,000 names of three instances, A and SRV mixed, 1,000 policy rules, two views, one core for the server and dnsperf on the other, each server
 * asked as fast as dnsperf can: beside CoreDNS, Knot and a bare node:dgram socket; while names change; while others ask for names that do not exist; in processes of its
 * own; and whether memory stays as it is for ten minutes of more questions than can be answered.
 * `npm run bench -- dns [--rounds 7] [--seconds 3] [--memory-seconds 600] [--only peers,changes,flood,processes,memory]`; it takes about ten minutes, and
 * `--memory-seconds` twice more, for the memory and for calls beside a DNS process.
 */
import { argsOf, asksForAll } from "./_args.ts";
import { changing, INSTANCES, type Loaded, NAMES, namesBytes, questionFile, questionsOf } from "./_dns.ts";
import { type Flooded, flooded } from "./_dns-flood.ts";
import { memoryGoal, overloaded } from "./_dns-overload.ts";
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
const unknown = values.only.filter((name) => !PARTS.some((each) => each === name));
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
/** Names whose entries come in one message, where many do. */
const BATCHED_NAMES = 50;

// ---- while something changes ----
type Meanwhile = "quiet" | "changing" | "elsewhere" | "batched" | "wide";

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
  const many = (i: number) =>
    namesBytes(
      Array.from({ length: BATCHED_NAMES }, (_, n) => (i * BATCHED_NAMES + n) % 300),
      { namespace: "svc.other", version: i },
    );
  const batched = () => changing(ours.running, ELSEWHERE_PER_SECOND / INSTANCES / BATCHED_NAMES, many);
  const loaded = await inTurns<Meanwhile>(
    {
      quiet: { server: ours, file },
      changing: { server: ours, file, beside: () => changing(ours.running, CHANGED_NAMES_PER_SECOND, changed) },
      elsewhere: { server: ours, file, beside: elsewhere },
      batched: { server: ours, file, beside: batched },
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
      `Changes elsewhere are ${ELSEWHERE_PER_SECOND} entries a second of another namespace, registered on this node in messages of ${INSTANCES}, or of ${INSTANCES * BATCHED_NAMES} ("batched"). Messages of ${INSTANCES} use ${round(registering * 100)} % of the core without a query, and all of it counts as part of the answers. Names that change get new ports, ${CHANGED_NAMES_PER_SECOND} names a second with all their instances.`,
    ],
  };
}

/** What it would be if the registrations were free: the server takes `registering` of the core for them. */
function withoutRegistering(rounds: readonly Loaded[] | undefined, registering: number): readonly Loaded[] {
  return (rounds ?? []).map((each) => ({ ...each, cpuUs: each.cpuUs * (1 - registering / each.share) }));
}

function changeGoals({ loaded, registering }: Changed): readonly Goal[] {
  const still = perCpuSecond(loaded.quiet);
  const over = ratioOf(perCpuSecond(withoutRegistering(loaded.elsewhere, registering)), still);
  const goal = (work: string, rounds: readonly Loaded[] | undefined, note?: string) => {
    const ours = perCpuSecond(rounds);
    return ratioGoal({
      name: `DNS queries per CPU-second ${work}, over those of quiet times`,
      shown: {
        work: `DNS answers ${work}`,
        beside: "the same node in a quiet period",
        unit: "queries per CPU-second",
        isMoreBetter: true,
        oursName: "meanwhile",
        theirsName: "quiet",
      },
      ratio: ratioOf(ours, still),
      ours: spread(ours),
      theirs: spread(still),
      atLeast: 0.9,
      note,
    });
  };
  const alone = `${cellText(over)} × without the own cost of the registrations, ${round(registering * 100)} % of the core without a query`;
  return [
    goal("while 1 % of the names change a second", loaded.changing),
    goal(`while ${cellText(ELSEWHERE_PER_SECOND)} entries a second change elsewhere`, loaded.elsewhere, alone),
    goal(`while as many change elsewhere, ${INSTANCES * BATCHED_NAMES} per message`, loaded.batched),
    goal(`to ${cellText(2 * WIDE_NAMES)} different queries`, loaded.wide),
  ];
}

function floodGoal(told: Flooded | string): Goal {
  const name = "valid DNS queries answered in addition to random names from 10,000 networks";
  if (typeof told === "string") return { name, value: undefined, unit: "%", atLeast: 99, note: told };
  const note = `${cellText(round(told.floodPerSecond))} random names a second arrived in addition to ${cellText(round(told.goodPerSecond))} valid queries; the node used ${round(told.share)} of a core`;
  // One process sends all of it, and may be too slow for that.
  if (told.floodPerSecond < 0.9 * 50_000)
    return {
      name,
      value: undefined,
      unit: "%",
      atLeast: 99,
      note: `${round(told.answeredShare * 100)} % were answered, with too few of them: ${note}`,
    };
  const work = `valid DNS queries answered, ${cellText(5000)} a second in addition to ${cellText(50_000)} random names a second from ${cellText(10_000)} networks`;
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
const failed: string[] = [];
/** One part, if it was asked for. Where it fails, the others are told all the same, and nothing is kept. */
async function part<T>(name: (typeof PARTS)[number], measure: () => Promise<T>): Promise<T | undefined> {
  if (!values.only.includes(name)) return undefined;
  try {
    return await measure();
  } catch (error) {
    console.error(error);
    failed.push(`${name} failed: ${String(error)}`);
    process.exitCode = 1;
    return undefined;
  }
}
const peers = await part("peers", () => besidePeers(values));
const changes = await part("changes", whileChanging);
const flood = await part("flood", () => flooded(Math.min(10, values.seconds * 3)));
const inProcesses = await part("processes", () => processes({ ...values, overloadSeconds: values["memory-seconds"] }));
const kept = await part("memory", () => overloaded(values["memory-seconds"]));
report({
  name: "dns",
  isKept: failed.length > 0 ? failed.join("; ") : asksForAll(values, DEFAULTS),
  tables: {
    ...(peers && { "answers at the maximum rate of dnsperf": peerRows(peers) }),
    ...(changes && { "answers while data changes": rowsOf(changes.loaded) }),
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
    "CoreDNS adds NS records, and does not compress the names of an answer that fits without compression. It is measured with `file` only, which builds each answer, and with its `cache` in front, which keeps answers as Waymark does. CoreDNS and Knot answer in the same order each time; Waymark chooses a random order. The answers of the bare socket are as long as Waymark's, and it uses its socket in the same way.",
    'dnsperf has 400 queries in flight and one core, which is not enough to fill Knot\'s core: "share of a core" shows the used part. CPU time per packet falls as more packets arrive together, so Knot costs more than necessary at less than 90 % of its core, and has no verdict.',
    "Knot and dnsperf come from the system's packages and can be some years old; CoreDNS is a current version. The versions are at the end of this section.",
  ],
});
