/**
 * What does a query wait for while registrations nearly fill the core? Registrations of one entry with its lease come at a fixed rate over 64
 * connections, and queries at a lower rate over four others. Each latency counts from the time at which a request was due.
 */
import type { Running } from "./_processes.ts";
import { type Asked, grpcAsked, ONE_A_CONNECTION, paced } from "./_rates.ts";
import { cellText, type Goal, paired, percentile, round, spread } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { exactQuery, PATH, scattered } from "./_work.ts";
import { ETCD_PATH, etcdExact } from "./adapters/etcd-messages.ts";

const REGISTRATIONS_PER_SECOND = 5000;
const QUERIES_PER_SECOND = 500;
const SECONDS = 5;
/** Calls that may wait on one connection, so that the rate holds while a side is slow. */
const MAX_OPEN = 100;

export interface LoadedSide {
  readonly server: Running;
  /** Services that can be asked for. */
  readonly services: number;
  /** Registers an entry under a lease of its own. */
  readonly register: (wire: Wire, place: number) => Promise<unknown>;
}

interface Round {
  readonly registrationsPerSecond: number;
  readonly coreShare: number;
  readonly tookMs: readonly number[];
}

let place = 1_000_000;

/** One round at one side, whose paths are compiled. */
async function loaded({ server, services, register }: LoadedSide): Promise<Round> {
  const open = async () => {
    const wire = await Wire.open(server.grpc);
    return { ask: () => register(wire, place++), close: () => wire.close() };
  };
  const registrations: Asked = { who: server.name, server, connections: ONE_A_CONNECTION.connections, maxOpen: MAX_OPEN, open };
  const [path, message] = server.name === "etcd" ? [ETCD_PATH.range, etcdExact] : [PATH.query, exactQuery];
  const queries = grpcAsked(server, path, (i) => message(scattered(i, services)));
  const [cpuMs, startMs] = [server.cpuMs(), performance.now()];
  const [registered, { tookMs }] = await Promise.all([
    paced(registrations, REGISTRATIONS_PER_SECOND, SECONDS),
    paced(queries, QUERIES_PER_SECOND, SECONDS),
  ]);
  const coreShare = (server.cpuMs() - cpuMs) / (performance.now() - startMs);
  return { registrationsPerSecond: registered.perSecond, coreShare, tookMs };
}

function rowOf({ server }: LoadedSide, rounds: readonly Round[]) {
  const of = (figure: (round: Round) => number) => spread(rounds.map(figure));
  return {
    program: server.name,
    "registrations a second": of(({ registrationsPerSecond }) => registrationsPerSecond),
    "share of the core": round(of(({ coreShare }) => coreShare).median),
    "queries' p50 ms": of(({ tookMs }) => percentile(tookMs, 0.5)),
    "queries' p99 ms": of(({ tookMs }) => percentile(tookMs, 0.99)),
    "longest ms": of(({ tookMs }) => Math.max(...tookMs)),
  };
}

/** Rounds of both sides in turn, after one of each that does not count. */
export async function queriesUnderLoad(rounds: number, ours: LoadedSide, theirs: LoadedSide | undefined) {
  console.error("queries while registrations nearly fill the core");
  await loaded(ours);
  if (theirs !== undefined) await loaded(theirs);
  const { a, b } = await paired(rounds, () => loaded(ours), theirs && (() => loaded(theirs)));
  return [rowOf(ours, a), ...(theirs === undefined ? [] : [rowOf(theirs, b)])];
}

/** What a query may wait for, by the median of the rounds. */
export function underLoadGoals([ours, theirs]: Awaited<ReturnType<typeof queriesUnderLoad>>): readonly Goal[] {
  if (ours === undefined) return [];
  const work = `an exact query while ${cellText(REGISTRATIONS_PER_SECOND)} durable registrations a second nearly fill the core`;
  const goal = (what: string, column: "queries' p99 ms" | "longest ms", atMost: number): Goal => {
    const value = ours[column];
    const beside = theirs && { beside: "etcd, a serializable range beside as many leases and puts", theirs: theirs[column] };
    return {
      name: `${work}: ${what}`,
      value: value.median,
      unit: "ms",
      atMost,
      shown: { work: `${work}: ${what}`, unit: "ms", ours: value, ...beside },
    };
  };
  return [goal("latency, p99", "queries' p99 ms", 60), goal("longest latency", "longest ms", 120)];
}
