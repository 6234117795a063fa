/** What a DNS answer costs beside CoreDNS, Knot and a bare node:dgram socket, and how long it takes at half of what the node can give. */
import type { Question } from "dns-packet";
import { askDns, type DnsServer, dnsperf, INSTANCES, NAMES, questionFile, questionsOf } from "./_dns.ts";
import { costs, inTurns, type Lengths, type Rounds, rowsOf, startOurs, type Turn } from "./_dns-turns.ts";
import { neighbourShare, startDnsEcho } from "./_processes.ts";
import { cellText, type Goal, percentile, quiet, ratioGoal, ratioOf, round, spread } from "./_results.ts";
import { fail } from "./_work.ts";
import { mustBeEqual, zoneText } from "./_zone.ts";
import { startCoreDns } from "./adapters/coredns.ts";
import { startKnot } from "./adapters/knot.ts";

/** A server that has less of its core than this waits for dnsperf: it is not as cheap as it can be, since CPU a packet falls with the rate. */
const SATURATED = 0.9;
/**
 * Under way at half load. dnsperf sends what it is late with in one burst, which is no more than this: with 100 it kept its pace of 54,000 a second on one core (161,996 of 162,000
 * in 3 s), and with 54,000 its bursts filled the node's socket.
 */
const MOST_AT_HALF = 100;
/** What a question counts that has no answer: as long as `dig` waits for one. */
const LOST_MS = 5000;
const NAMES_OF = {
  waymark: "waymark",
  coredns: "coredns, file",
  cached: "coredns, cache and file",
  oursOfA: "waymark, A alone",
  cachedOfA: "coredns, cache and file, A alone",
  knot: "knot",
  echo: "echo",
} as const;

type Who = keyof typeof NAMES_OF;

export interface Peers {
  readonly loaded: Partial<Rounds<Who>>;
  /** At half of what is answered at most. */
  readonly p99Ms: readonly number[];
  /** Of the questions meanwhile. */
  readonly lost: number;
  /** Of the core, meanwhile. */
  readonly others: number;
  readonly notes: readonly string[];
}

export async function besidePeers(lengths: Lengths): Promise<Peers> {
  const ours = await startOurs();
  const questions = questionsOf();
  const zone = await zoneText(ours.at, questions);
  const coredns = await startCoreDns(zone, { hasCache: false });
  const cached = await startCoreDns(zone, { hasCache: true });
  const peers = { coredns, cached, knot: await startKnot(zone) };
  const notes: string[] = [];
  for (const peer of Object.values(peers)) {
    if (peer === undefined) continue;
    const over = await mustBeEqual(ours.at, peer.at, peer.who, questions);
    notes.push(
      `Before the measurement, all ${questions.length} queries were also sent to ${peer.who}: the answer and additional sections are equal. Its answers have ${round(over)} × the bytes of Waymark's.`,
    );
  }
  const bytesOf = async (question: Question | undefined) => (await askDns(ours.at, question ?? fail())).bytes;
  const bare = await startDnsEcho(await bytesOf(questions[0]), await bytesOf(questions[1]));
  const echo: DnsServer = { who: "a bare node:dgram socket", at: bare.grpc, running: bare };
  const file = questionFile(questions);
  const turns: Partial<Record<Who, Turn>> = { waymark: { server: ours, file } };
  for (const who of ["coredns", "cached", "knot"] as const) {
    const server = peers[who];
    if (server !== undefined) turns[who] = { server, file };
  }
  const fileOfA = questionFile(questions.filter(({ type }) => type === "A"));
  turns.oursOfA = { server: ours, file: fileOfA };
  if (cached !== undefined) turns.cachedOfA = { server: cached, file: fileOfA };
  turns.echo = { server: echo, file };
  const loaded = await inTurns<Who>(turns, lengths);
  const half = spread((loaded.waymark ?? []).map(({ perSecond }) => perSecond)).median / 2;
  const p99Ms: number[] = [];
  let lost = 0;
  const others = await neighbourShare([ours.running], async () => {
    for (let r = 0; r < lengths.rounds; r++) {
      const told = await dnsperf(ours, file, { seconds: lengths.seconds, perSecond: half, underWay: MOST_AT_HALF, isTimed: true });
      lost += told.lost;
      p99Ms.push(percentile([...told.tookMs, ...Array.from({ length: told.lost }, () => LOST_MS)], 0.99));
    }
  });
  for (const each of [ours, ...Object.values(peers), echo]) await each?.running.stop();
  return { loaded, p99Ms, lost, others, notes };
}

const LOAD = `for ${cellText(NAMES)} names × ${INSTANCES} instances in rotation, ${cellText(NAMES)} policy rules, two views, at the maximum rate`;
const WORK = `a DNS answer over UDP: half A, half SRV with the addresses of its targets, ${LOAD}`;

export function peerGoals({ loaded, p99Ms, lost, others }: Peers): readonly Goal[] {
  const unit = "µs of CPU per query";
  const side = (who: Who) => (loaded[who] === undefined ? undefined : spread(costs(loaded[who])));
  const over = (one: Who, other: Who) => ratioOf(costs(loaded[one]), costs(loaded[other]));
  const besideCore = (name: string, who: Who, beside: string) => ({
    name,
    shown: { work: WORK, beside, unit },
    ratio: loaded[who] === undefined ? undefined : over(who, "waymark"),
    ours: side("waymark"),
    theirs: side(who),
  });
  return [
    ratioGoal({ ...besideCore("DNS queries per CPU-second over CoreDNS", "coredns", "CoreDNS, file plugin only"), atLeast: 3 }),
    ratioGoal({
      ...besideCore("DNS queries per CPU-second over CoreDNS with its cache", "cached", "CoreDNS, cache and file plugins"),
      atLeast: 1,
      note: "our own target: most deployments use the cache",
    }),
    ratioGoal({
      name: "DNS queries per CPU-second over CoreDNS with its cache, A alone",
      shown: { work: `a DNS answer over UDP: A alone, ${LOAD}`, beside: "CoreDNS, cache and file plugins", unit },
      ratio: loaded.cachedOfA === undefined ? undefined : over("cachedOfA", "oursOfA"),
      ours: side("oursOfA"),
      theirs: side("cachedOfA"),
      atLeast: 1,
      note: "our own target",
    }),
    ratioGoal({
      name: "CPU of a DNS query over that of a bare node:dgram socket",
      shown: { work: WORK, beside: "a bare node:dgram socket, answers of the same size", unit },
      ratio: over("waymark", "echo"),
      ours: side("waymark"),
      theirs: side("echo"),
      atMost: 1.8,
    }),
    knotGoal(
      ratioGoal({
        ...besideCore("DNS queries per CPU-second over Knot", "knot", "Knot, one worker"),
        atLeast: 0.5,
        note: "our own target",
      }),
      loaded,
    ),
    quiet(latencyGoal(p99Ms, lost), others),
  ];
}

/**
 * dnsperf's threads share one core where there are two. One of them stands for milliseconds while another runs, and then sends what it is late with in one burst. A burst that
 * no socket holds says nothing of an answer.
 */
function latencyGoal(p99Ms: readonly number[], lost: number): Goal {
  const goal = { name: "latency of a DNS answer at half load, p99", unit: "ms", atMost: 1 };
  if (lost > 0) {
    const note = `not measured: dnsperf, on one core, did not keep its pace, and ${cellText(lost)} questions of its bursts found no room in a socket`;
    return { ...goal, value: undefined, note };
  }
  const work = "a DNS answer over UDP at half of the maximum rate: latency, p99";
  return { ...goal, value: spread(p99Ms).median, shown: { work, unit: "ms", ours: spread(p99Ms) } };
}

/** No verdict where dnsperf could not ask Knot as fast as it answers: its CPU time a packet is then more than it need be, which favours us. */
function knotGoal(goal: Goal, { knot }: Peers["loaded"]): Goal {
  const share = spread((knot ?? []).map((each) => each.share)).median;
  if (goal.value === undefined || share >= SATURATED) return goal;
  const seen = `${cellText(goal.value)} × while dnsperf kept Knot busy for ${cellText(share * 100)} % of its core, so Knot can do better`;
  return { ...goal, value: undefined, note: seen };
}

export function peerRows({ loaded }: Peers): readonly Readonly<Record<string, unknown>>[] {
  return rowsOf(loaded, NAMES_OF);
}
