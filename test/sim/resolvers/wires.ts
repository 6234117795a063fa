/**
 * The network between resolvers and their servers, and of clients that watch: calls and streams with a delay, in order. A cut stalls what is on its way, and
 * breaks streams when it lasts; what is on its way when a stream breaks is lost.
 */
import { WaymarkError } from "../../../src/lib/errors.ts";
import type { Rng } from "../../../src/lib/rng.ts";
import type { World } from "../world.ts";

/** One process at a time runs here. */
export interface Host {
  readonly name: string;
  readonly isUp: boolean;
  /** Whether its processes die without a word. */
  readonly isSilent: boolean;
  readonly isFrozen: boolean;
  /** Counts processes. */
  readonly life: number;
}

/** What a server sends on a stream. */
export interface Source<T> {
  pull(): T | undefined;
  close(): void;
}

/** How a client hears of a stream. */
export interface Hearing<T> {
  said(message: T): void;
  ended(retryMs: number | undefined): void;
}

export interface Line {
  close(): void;
}

interface Stream<T> extends Line {
  readonly from: Host;
  readonly to: Host;
  readonly fromLife: number;
  readonly toLife: number;
  readonly heard: Hearing<T>;
  source: Source<T> | undefined;
  isOver: boolean;
  lastMs: number;
  /** On their way, in order. */
  readonly flight: T[];
  /** How many of them would have arrived but for a cut. */
  stalledCount: number;
  cutSinceMs: number | undefined;
}

const DELAY_MS = 2;
const JITTER_MS = 10;
/** The most time between two looks of a server at what it can send. */
const PUMP_MS = 60;
/** Messages on their way on one stream. */
const MAX_FLIGHT = 4;
/** A stream breaks when it was cut for so long. */
const BREAK_MS = 5000;
/** Pings of a connection notice so late that nobody is there; later than a resolver notices that a watch is silent. */
const PINGED_MS = 12_000;
/** How long a call waits for its answer. */
const CALL_MS = 3000;

export class Wires {
  readonly #world: World;
  readonly #rng: Rng;
  readonly #cuts = new Map<string, number>();
  /** By pair, how much longer than elsewhere something may be on its way. */
  readonly #slowMs = new Map<string, number>();
  readonly #slowRng: Rng;
  readonly #streams = new Set<Stream<never>>();

  constructor(world: World, rng: Rng) {
    this.#world = world;
    this.#rng = rng;
    this.#slowRng = rng.fork("slow");
  }

  cut(a: string, b: string): void {
    const pair = pairOf(a, b);
    this.#cuts.set(pair, (this.#cuts.get(pair) ?? 0) + 1);
  }

  heal(a: string, b: string): void {
    const pair = pairOf(a, b);
    this.#cuts.set(pair, Math.max(0, (this.#cuts.get(pair) ?? 0) - 1));
  }

  /** From now on everything between two is on its way for up to so much longer. What comes later on a stream waits for what came before. */
  slow(a: string, b: string, byMs: number): void {
    const pair = pairOf(a, b);
    this.#slowMs.set(pair, Math.max(0, (this.#slowMs.get(pair) ?? 0) + byMs));
  }

  healAll(): void {
    this.#cuts.clear();
    this.#slowMs.clear();
  }

  isCut(a: string, b: string): boolean {
    return (this.#cuts.get(pairOf(a, b)) ?? 0) > 0;
  }

  /** Breaks what is open between two at once. */
  break(a: string, b: string): void {
    const isBetween = ({ from, to }: Stream<never>) => pairOf(from.name, to.name) === pairOf(a, b);
    // Who hears of it may open others.
    const open = this.#streams.values().filter(isBetween).toArray();
    for (const stream of open) this.#end(stream, undefined);
  }

  /** Calls `answered` once, with nothing when the call fails. `ask` may throw what the server refuses with, which `answered` gets. */
  call<T>(
    from: Host,
    to: Host,
    ask: () => T,
    answered: (answer: { readonly is: T } | WaymarkError | undefined, tookMs: number) => void,
  ): void {
    const [startMs, { life }] = [this.#world.nowMs, from];
    let isDone = false;
    const done = (answer: { readonly is: T } | WaymarkError | undefined) => {
      if (isDone || from.life !== life || !from.isUp) return;
      isDone = true;
      answered(answer, this.#world.nowMs - startMs);
    };
    this.#world.after(CALL_MS, () => done(undefined));
    this.#packet(from, to, () => {
      if (!to.isUp) {
        if (!to.isSilent) this.#packet(to, from, () => done(undefined));
        return;
      }
      if (to.isFrozen) return;
      const answer = attempt(() => ({ is: ask() }));
      this.#packet(to, from, () => done(answer));
    });
  }

  stream<T>(from: Host, to: Host, open: () => Source<T>, heard: Hearing<T>): Line {
    const stream: Stream<T> = {
      from,
      to,
      fromLife: from.life,
      toLife: to.life,
      heard,
      source: undefined,
      isOver: false,
      lastMs: 0,
      flight: [],
      stalledCount: 0,
      cutSinceMs: undefined,
      close: () => this.#end(stream, undefined, true),
    };
    this.#streams.add(stream as unknown as Stream<never>);
    this.#world.after(this.#delayMs(from, to), () => {
      if (stream.isOver) return;
      if (this.isCut(from.name, to.name) || !to.isUp || to.isFrozen || to.life !== stream.toLife) {
        this.#world.after(to.isSilent || to.isFrozen ? CALL_MS : this.#delayMs(from, to), () => this.#end(stream, undefined));
        return;
      }
      const source = attempt(open);
      if (source instanceof WaymarkError) this.#world.after(this.#delayMs(from, to), () => this.#end(stream, source.details.retryMs));
      else {
        stream.source = source;
        this.#pump(stream);
      }
    });
    return stream;
  }

  #pump<T>(stream: Stream<T>): void {
    const { from, to } = stream;
    if (stream.isOver) return;
    if (from.life !== stream.fromLife) return this.#end(stream, undefined, true);
    if (to.life !== stream.toLife || !to.isUp) {
      // Who died without a word is noticed by its silence, and where it had nothing to say by the pings of the connection.
      this.#world.after(to.isSilent ? PINGED_MS : 0, () => this.#end(stream, undefined));
      return;
    }
    if (!this.isCut(from.name, to.name)) stream.cutSinceMs = undefined;
    else {
      stream.cutSinceMs ??= this.#world.nowMs;
      if (this.#world.nowMs - stream.cutSinceMs > BREAK_MS) return this.#end(stream, undefined);
    }
    for (; stream.cutSinceMs === undefined && stream.stalledCount > 0 && !stream.isOver; stream.stalledCount--) this.#deliver(stream);
    while (!stream.isOver && !to.isFrozen && stream.flight.length < MAX_FLIGHT) {
      const message = attempt(() => stream.source?.pull());
      // A server that opens a stream late may refuse it then.
      if (message instanceof WaymarkError) return this.#end(stream, message.details.retryMs);
      if (message === undefined) break;
      this.#send(stream, message);
    }
    this.#world.after(5 + this.#rng.int(PUMP_MS), () => this.#pump(stream));
  }

  #send<T>(stream: Stream<T>, message: T): void {
    stream.flight.push(message);
    stream.lastMs = Math.max(stream.lastMs, this.#world.nowMs + this.#delayMs(stream.from, stream.to));
    this.#world.at(stream.lastMs, () => {
      if (stream.isOver) return;
      if (stream.stalledCount > 0 || this.isCut(stream.from.name, stream.to.name)) stream.stalledCount += 1;
      else this.#deliver(stream);
    });
  }

  #deliver<T>({ flight, from, fromLife, heard }: Stream<T>): void {
    const message = flight.shift();
    if (message !== undefined && from.isUp && from.life === fromLife) heard.said(message);
  }

  #end<T>(stream: Stream<T>, retryMs: number | undefined, isByClient = false): void {
    if (stream.isOver) return;
    stream.isOver = true;
    this.#streams.delete(stream as unknown as Stream<never>);
    if (stream.to.isUp && stream.to.life === stream.toLife) stream.source?.close();
    if (!isByClient && stream.from.isUp && stream.from.life === stream.fromLife) stream.heard.ended(retryMs);
  }

  /** A cut loses it. */
  #packet(from: Host, to: Host, arrive: () => void): void {
    if (this.isCut(from.name, to.name)) return;
    this.#world.after(this.#delayMs(from, to), () => {
      if (!this.isCut(from.name, to.name)) arrive();
    });
  }

  #delayMs(from: Host, to: Host): number {
    const slowMs = this.#slowMs.get(pairOf(from.name, to.name)) ?? 0;
    return DELAY_MS + this.#rng.next() * JITTER_MS + (slowMs === 0 ? 0 : this.#slowRng.next() * slowMs);
  }
}

function attempt<T>(run: () => T): T | WaymarkError {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof WaymarkError)) throw error;
    return error;
  }
}

function pairOf(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}
