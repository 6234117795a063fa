/**
 * What a request costs at three rates: a low one, where each comes alone; half of what the slowest can do; and as many as each can
 * answer with 64 under way. The full rate has about twice the rounds of the others, since neighbours on the machine disturb it most. CPU time a
 * request falls with the rate, since requests that come together share reads, writes and wake-ups, so peers are compared at equal rates, and at full
 * load each at its own.
 */
import { type HttpRequest, HttpWire } from "./_http.ts";
import { neighbourShareOfBoth, type Running } from "./_processes.ts";
import { cellText, type Goal, MAX_OTHERS, percentile, ratioGoal, ratioOf, round, type Spread, spread } from "./_results.ts";
import { Wire } from "./_wire.ts";

const CONNECTIONS = 4;
const UNDER_WAY = 64;
/** Open gRPC calls on one connection at most: a node takes 128, and ends a connection that opens more. */
const MAX_OPEN = 100;
/** Requests before any that count: through HTTP/JSON, the first 2,000 cost 330 µs each, those after 24,000 cost 95 µs, since Node compiles by and by. */
const WARM = 25_000;
/** Requests of a round at least. */
const LEAST = 500;
/** The low rate is at most this share of half, or it would be the same rate where answers are slow. */
const MAX_LOW_SHARE = 2 / 3;
/** What it is then. */
const LOW_SHARE = 1 / 4;

/** How often the full rate is looked at before it sets the others: one look of a third of a second may meet a collection of garbage. */
const LOOKS = 5;

/** A connection that takes requests, some at a time. */
interface Connection {
  ask(i: number): Promise<unknown>;
  close(): void;
}

/** Requests of one kind to one server, which differ by their number. */
export interface Asked {
  readonly who: string;
  readonly server: Running;
  readonly connections: number;
  /** Requests that one connection may have under way. */
  readonly maxOpen: number;
  open(): Promise<Connection>;
}

/** How gRPC calls are spread. */
export interface Spreading {
  readonly connections: number;
  readonly maxOpen: number;
}

export const OVER_FOUR: Spreading = { connections: CONNECTIONS, maxOpen: MAX_OPEN };
/** As HTTP/1.1 has them: one call at a time on each of 64 connections. */
export const ONE_A_CONNECTION: Spreading = { connections: UNDER_WAY, maxOpen: 1 };

/** gRPC calls, over four connections unless it is said otherwise. */
export function grpcAsked(server: Running, path: string, message: (i: number) => Uint8Array, { connections, maxOpen } = OVER_FOUR): Asked {
  const open = async () => {
    const wire = await Wire.open(server.grpc);
    return { ask: (i: number) => wire.unary(path, message(i)), close: () => wire.close() };
  };
  return { who: server.name, server, connections, maxOpen, open };
}

/** HTTP/1.1 requests, one at a time on each of 64 connections. */
export function httpAsked(server: Running, at: Running["grpc"], request: (i: number) => HttpRequest, who: string): Asked {
  const open = async () => {
    const wire = await HttpWire.open(at);
    return { ask: (i: number) => wire.request(request(i)), close: () => wire.close() };
  };
  return { who, server, ...ONE_A_CONNECTION, open };
}

interface Round {
  readonly cpuUs: number;
  readonly perSecond: number;
  readonly tookMs: readonly number[];
  readonly others: number;
}

/** Numbers go on from round to round, so that a round does not ask for what the one before asked for. */
let nextNumber = 0;

async function measured(
  of: Asked,
  count: number,
  work: (connections: readonly Connection[], tookMs: number[]) => Promise<void>,
): Promise<Round> {
  const { server, connections } = of;
  const open = await Promise.all(Array.from({ length: connections }, () => of.open()));
  const tookMs: number[] = [];
  let [cpuMs, seconds] = [0, 0];
  const others = await neighbourShareOfBoth(server, async () => {
    const [beforeMs, startMs] = [server.cpuMs(), performance.now()];
    await work(open, tookMs);
    cpuMs = server.cpuMs() - beforeMs;
    seconds = (performance.now() - startMs) / 1000;
  });
  for (const connection of open) connection.close();
  return { cpuUs: (cpuMs * 1000) / count, perSecond: count / seconds, tookMs, others };
}

/** As many as are answered with 64 under way. */
function closed(of: Asked, count: number): Promise<Round> {
  return measured(of, count, async (connections, tookMs) => {
    let left = count;
    const worker = async (connection: Connection) => {
      while (left-- > 0) {
        const sentMs = performance.now();
        await connection.ask(nextNumber++);
        tookMs.push(performance.now() - sentMs);
      }
    };
    await Promise.all(Array.from({ length: UNDER_WAY }, (_, i) => worker(connections[i % connections.length] as Connection)));
  });
}

/**
 * At a fixed rate whatever the answers do; a latency counts from when its request was due. What is due while every connection has as many
 * requests under way as it may waits, and its wait counts.
 */
export function paced(of: Asked, perSecond: number, seconds: number): Promise<Round> {
  const count = Math.round(perSecond * seconds);
  return measured(of, count, async (connections, tookMs) => {
    const startMs = performance.now();
    const dueMs = (i: number) => startMs + (i * 1000) / perSecond;
    const free = Array.from({ length: of.maxOpen }, () => connections).flat();
    let sent = 0;
    await new Promise<void>((resolve, reject) => {
      const send = (connection: Connection) => {
        const due = dueMs(sent++);
        const answered = () => {
          free.push(connection);
          if (tookMs.push(performance.now() - due) === count) resolve();
        };
        connection.ask(nextNumber++).then(answered, reject);
      };
      const turn = () => {
        const due = Math.min(count, Math.floor(((performance.now() - startMs) / 1000) * perSecond));
        for (let wanted = due - sent; wanted > 0; wanted--) {
          const connection = free.shift();
          if (connection === undefined) break;
          send(connection);
        }
        // Not a timer: it would add its own millisecond to every latency.
        if (sent < count) setImmediate(turn);
      };
      turn();
    });
  });
}

export interface RateOptions {
  /** At low and half. */
  readonly rounds: number;
  /** Of one round. */
  readonly seconds: number;
  /** Requests a second where each comes alone; a quarter of half where half is little more. */
  readonly lowPerSecond: number;
  /** All three when absent. */
  readonly rates?: readonly RateRow["rate"][];
}

/** One row of the report: one side at one rate. */
export interface RateRow {
  readonly work: string;
  readonly rate: "low" | "half" | "full";
  readonly program: string;
  readonly "requests a second": number;
  readonly "CPU µs": Spread;
  readonly "p50 ms": number | string;
  readonly "p99 ms": number | string;
  /** Absent for us. */
  readonly "peer's CPU ÷ ours": Spread | string;
}

/** Compares the first with the others at each rate, in rounds that go through all of them there and back. */
export async function compareAtRates(
  work: string,
  sides: readonly Asked[],
  { rounds, seconds, lowPerSecond, rates = ["low", "half", "full"] }: RateOptions,
): Promise<readonly RateRow[]> {
  console.error(`${work}: ${sides.map(({ who }) => who).join(", ")}`);
  const full: number[] = [];
  for (const side of sides) {
    await closed(side, WARM);
    const looks: number[] = [];
    for (let i = 0; i < LOOKS; i++) looks.push((await closed(side, LEAST * 8)).perSecond);
    full.push(spread(looks).median);
  }
  const half = Math.round(Math.min(...full) / 2);
  const low = lowPerSecond <= half * MAX_LOW_SHARE ? lowPerSecond : Math.round(half * LOW_SHARE);
  const runs = {
    low: (side: Asked) => paced(side, low, seconds),
    half: (side: Asked) => paced(side, half, seconds),
    full: (side: Asked, i: number) => closed(side, Math.max(LEAST, Math.round((full[i] ?? 0) * seconds))),
  } as const;
  const rows: RateRow[] = [];
  for (const rate of rates) {
    const results: Round[][] = sides.map(() => []);
    for (let r = 0; r < (rate === "full" ? 2 * rounds - 1 : rounds); r++) {
      const order = r % 2 === 0 ? [...sides.keys()] : [...sides.keys()].toReversed();
      for (const i of order) results[i]?.push(await runs[rate](sides[i] as Asked, i));
    }
    const [ours = []] = results;
    sides.forEach(({ who }, i) => rows.push(rowOf({ work, rate, program: who }, results[i] ?? [], i === 0 ? undefined : ours)));
  }
  return rows;
}

function rowOf(head: Pick<RateRow, "work" | "rate" | "program">, rounds: readonly Round[], ours: readonly Round[] | undefined): RateRow {
  const isQuiet = Math.max(...rounds.map(({ others }) => others)) <= MAX_OTHERS;
  const latency = (p: number) => {
    const value = percentile(
      rounds.flatMap(({ tookMs }) => tookMs),
      p,
    );
    return isQuiet ? value : `${value} while others used the core`;
  };
  const ratio =
    ours === undefined
      ? undefined
      : ratioOf(
          rounds.map(({ cpuUs }) => cpuUs),
          ours.map(({ cpuUs }) => cpuUs),
        );
  return {
    ...head,
    "requests a second": round(spread(rounds.map(({ perSecond }) => perSecond)).median),
    "CPU µs": spread(rounds.map(({ cpuUs }) => cpuUs)),
    "p50 ms": latency(0.5),
    "p99 ms": latency(0.99),
    "peer's CPU ÷ ours": ratio ?? "-",
  };
}

/** A comparison that has a goal. */
export interface Wanted {
  /** In words of a reader. */
  readonly work: string;
  /** The same without anything measured, since a goal is found again by its name in the result before. `work` when absent. */
  readonly name?: string;
  /** Of the rows. */
  readonly row: string;
  /** Ours in them, and whose bar it is, where it is no node. */
  readonly ours?: { readonly program: string; readonly name: string };
  readonly program: string;
  /** Whose bar it is, where that is not the first words of `beside`. */
  readonly theirsName?: string;
  /** The peer, in words of a reader. */
  readonly beside: string;
  readonly rate: RateRow["rate"];
  readonly atLeast: number;
  readonly note?: string;
}

/** A goal beside a peer at one rate, from the rows of both. That of the full rate names the ratios at the other rates too. */
export function besideGoal(
  rows: readonly RateRow[],
  { work, name: named = work, row, ours: own, program, theirsName, beside, rate, atLeast, note }: Wanted,
): Goal {
  const of = rows.filter((each) => each.work === row);
  const at = (name: string) => of.find((each) => each.rate === rate && each.program === name);
  const [ours, theirs] = [at(own?.program ?? "waymark"), at(program)];
  const others = rate === "full" ? of.filter((each) => each.program === program && each.rate !== rate) : [];
  const otherRates = others
    .toReversed()
    .flatMap(({ rate: name, "peer's CPU ÷ ours": other }) => (typeof other === "object" ? [`${name} ${cellText(other.median)}`] : []))
    .join(" · ");
  return ratioGoal({
    name: `${named}, beside ${beside}`,
    shown: {
      work,
      beside,
      unit: "µs of CPU per request",
      ...(own && { oursName: own.name }),
      ...(theirsName !== undefined && { theirsName }),
      ...(otherRates !== "" && { otherRates }),
    },
    ratio: theirs?.["peer's CPU ÷ ours"],
    ours: ours?.["CPU µs"],
    theirs: theirs?.["CPU µs"],
    atLeast,
    note,
    missing: "the peer is not installed, or this part was left out",
  });
}

/** The rate at which a row was measured, as a reader says it: `3,000 a second`. */
export function rateText(rows: readonly RateRow[], work: string, rate: RateRow["rate"]): string {
  const asked = rows.find((each) => each.work === work && each.rate === rate)?.["requests a second"];
  return asked === undefined ? "at a low rate" : `${cellText(Math.round(asked / 10) * 10)} a second`;
}
