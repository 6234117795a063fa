/** Many watch streams on one peer, and changes for them to hear of. */
import { countField } from "./_frames.ts";
import type { Running } from "./_processes.ts";
import { Wire } from "./_wire.ts";
import { INSTANCES, PATH, registerBytes, watchBytes } from "./_work.ts";
import { type Sizes } from "./adapters/etcd.ts";
import { ETCD_PATH, etcdPut, etcdWatch, etcdWatchOwn } from "./adapters/etcd-messages.ts";
import { NatsWire } from "./adapters/nats.ts";

const STREAMS_A_CONNECTION = 100;
/** What watches of NATS subscribe to. */
const SUBJECT = "services";

/** A change that has not reached everybody by then never will. */
const LATE_MS = 60_000;
const MAX_TRIES = 50;
const RETRY_MS = 100;

/** Which changes a watch passes: all, by one filter for all watches; all, by a filter that no other watch has; those of a service of its own. */
export type Filters = "one" | "own" | "service";

/** Services that change where each watch has a filter of its own: few, since each filter names them all. */
export const OWN_FILTER_SERVICES = 10;

/** What a watch tells: how many changes came, and that changes from now on are told. */
interface Told {
  readonly heard: (changes: number) => void;
  readonly begun: () => void;
}

/** How a peer is watched and changed. */
interface Dialect {
  open(i: number, filters: Filters, told: Told): Promise<void>;
  change(k: number, version: number): Promise<unknown>;
  close(): void;
}

/** How our messages, etcd's and those of the bare server differ. */
interface GrpcWords {
  readonly watch: string;
  readonly watchBytes: (filters: Filters, i: number) => Uint8Array;
  /** Tag of a change in a watch message. */
  readonly changeTag: number;
  /** Tag of what says that the watch has begun; 0: its first message says so. */
  readonly begunTag: number;
  readonly change: string;
  readonly changeBytes: (k: number, version: number) => Uint8Array;
}

function wordsOf(server: Running, { etcdValue }: Sizes): GrpcWords {
  if (server.name === "etcd")
    return {
      watch: ETCD_PATH.watch,
      watchBytes: (filters, i) => (filters === "own" ? etcdWatchOwn(i) : etcdWatch(filters === "service" ? i : undefined)),
      changeTag: 0x5a,
      begunTag: 0x18,
      change: ETCD_PATH.put,
      changeBytes: (k, version) => etcdPut(k, Buffer.from(etcdValue).fill(String(version % 10), 0, 1)),
    };
  return {
    watch: PATH.watch,
    watchBytes: (filters, i) => watchBytes(namesOf(filters, i)),
    changeTag: 0x0a,
    // Field 4 at the end of the snapshot.
    begunTag: server.name === "echo" ? 0 : 0x22,
    change: PATH.register,
    changeBytes: (k, version) => registerBytes(k, k + 1, { version }),
  };
}

/** Names that a filter of ours holds; none: everything in the namespace. */
function namesOf(filters: Filters, i: number): readonly string[] {
  if (filters === "one") return [];
  if (filters === "service") return [`service-${i}`];
  return [...Array.from({ length: OWN_FILTER_SERVICES }, (_, service) => `service-${service}`), `only-watch-${i}-asks-for-it`];
}

class GrpcDialect implements Dialect {
  readonly #server: Running;
  readonly #words: GrpcWords;
  readonly #wires: Wire[] = [];
  #changer: Wire | undefined;
  #isClosing = false;

  constructor(server: Running, sizes: Sizes) {
    this.#server = server;
    this.#words = wordsOf(server, sizes);
  }

  async open(i: number, filters: Filters, { heard, begun }: Told): Promise<void> {
    const { watch, begunTag, changeTag, watchBytes: bytesOf } = this.#words;
    let wire = this.#wires[Math.floor(i / STREAMS_A_CONNECTION)];
    if (wire === undefined) this.#wires.push((wire = await Wire.open(this.#server.grpc)));
    let hasBegun = false;
    const stream = wire.stream(watch, {
      onMessage: (bytes, start, end) => {
        if (!hasBegun && (begunTag === 0 || countField(bytes, start, end, begunTag) > 0)) {
          hasBegun = true;
          begun();
          return;
        }
        heard(countField(bytes, start, end, changeTag));
      },
      onEnd: (why) => {
        if (!this.#isClosing) abort(`${this.#server.name} ended watch ${i}: ${why}`);
      },
    });
    stream.send(bytesOf(filters, i));
    // A watch of etcd is a stream of requests, and over when that ends.
    if (this.#server.name !== "etcd") stream.end();
  }

  async change(k: number, version: number): Promise<unknown> {
    this.#changer ??= await Wire.open(this.#server.grpc);
    return this.#changer.unary(this.#words.change, this.#words.changeBytes(k, version));
  }

  close(): void {
    this.#isClosing = true;
    for (const wire of this.#wires) wire.close();
    this.#changer?.close();
  }
}

/** Every watch hears of every change: NATS has no filters but the subject. */
class NatsDialect implements Dialect {
  readonly #server: Running;
  readonly #heard: ((changes: number) => void)[] = [];
  readonly #wires: NatsWire[] = [];
  readonly #payload: Buffer;
  #changer: NatsWire | undefined;

  constructor(server: Running, { entryBytes }: Sizes) {
    this.#server = server;
    this.#payload = Buffer.alloc(entryBytes, "x");
  }

  async open(i: number, _filters: Filters, { heard, begun }: Told): Promise<void> {
    let wire = this.#wires[Math.floor(i / STREAMS_A_CONNECTION)];
    if (wire === undefined)
      this.#wires.push((wire = await NatsWire.open(this.#server.grpc, (subscription) => this.#heard[subscription]?.(1))));
    this.#heard[i] = heard;
    wire.subscribe(SUBJECT, i);
    await wire.settled();
    begun();
  }

  async change(): Promise<unknown> {
    this.#changer ??= await NatsWire.open(this.#server.grpc, () => {});
    return this.#changer.publish(SUBJECT, this.#payload);
  }

  close(): void {
    for (const wire of this.#wires) wire.close();
    this.#changer?.close();
  }
}

export interface Closer {
  close(): void;
}

/** Watches of one peer, and one connection that makes changes. */
export class Watchers {
  readonly #server: Running;
  readonly #dialect: Dialect;
  readonly #seen: Float64Array;
  #version = 0;
  #atLeast = Number.POSITIVE_INFINITY;
  #behind = 0;
  #caughtUp: () => void = () => {};
  /** Changes delivered so far, over all streams. */
  delivered = 0;
  /** Changes the server refused and was asked for again. */
  refusals = 0;

  private constructor(server: Running, sizes: Sizes, count: number) {
    this.#server = server;
    this.#dialect = server.name === "nats" ? new NatsDialect(server, sizes) : new GrpcDialect(server, sizes);
    this.#seen = new Float64Array(count);
  }

  /** Opens `count` watches, and waits until each has begun. */
  static async open(server: Running, sizes: Sizes, count: number, filters: Filters = "one"): Promise<Watchers> {
    const watchers = new Watchers(server, sizes, count);
    let begun = 0;
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`${server.name}: ${count - begun} of ${count} watches have not begun`)), LATE_MS);
      const onBegun = () => {
        begun += 1;
        if (begun < count) return;
        clearTimeout(late);
        resolve();
      };
      const openAll = async () => {
        for (let i = 0; i < count; i++) {
          await watchers.#dialect.open(i, filters, { heard: (changes) => watchers.#heard(i, changes), begun: onBegun });
        }
      };
      openAll().catch(reject);
    });
    watchers.delivered = 0;
    watchers.#seen.fill(0);
    return watchers;
  }

  #heard(stream: number, changes: number): void {
    this.delivered += changes;
    const before = this.#seen[stream] ?? 0;
    const after = before + changes;
    this.#seen[stream] = after;
    if (before < this.#atLeast && after >= this.#atLeast) {
      this.#behind -= 1;
      if (this.#behind === 0) this.#caughtUp();
    }
  }

  /** Resolves when every stream has heard of `changes` changes in all. */
  #all(changes: number): Promise<void> {
    this.#atLeast = changes;
    this.#behind = 0;
    for (const seen of this.#seen) if (seen < changes) this.#behind += 1;
    if (this.#behind === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const late = setTimeout(() => {
        const missing = this.#seen.map((seen) => changes - seen).reduce((most, by) => Math.max(most, by), 0);
        abort(`${this.#server.name}: ${this.#behind} of ${this.#seen.length} watches wait for a change, one of them for ${missing}`);
      }, LATE_MS);
      this.#caughtUp = () => {
        clearTimeout(late);
        resolve();
      };
    });
  }

  async #change(k: number): Promise<void> {
    this.#version += 1;
    for (let tries = 1; ; tries++) {
      try {
        await this.#dialect.change(k, this.#version);
        return;
      } catch (error) {
        // etcd with ten thousand watches on one core refuses some puts ("request timed out").
        if (tries === MAX_TRIES) throw error;
        this.refusals += 1;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  /** One change, and on to the next when the last stream has it: ms each took from being sent. */
  async oneByOne(count: number, keys: number): Promise<readonly number[]> {
    const tookMs: number[] = [];
    for (let i = 0; i < count; i++) {
      const heard = this.#all((this.#seen[0] ?? 0) + 1);
      const startMs = performance.now();
      await Promise.all([this.#change(i % keys), heard]);
      tookMs.push(performance.now() - startMs);
    }
    return tookMs;
  }

  /**
   * A wave: each of `keys` changed once, `inFlight` at a time, until all streams have heard of all. No key twice in a wave,
   * or changes of it could be merged and the count would be of fewer.
   */
  async wave(keys: number, inFlight: number): Promise<void> {
    const heard = this.#all((this.#seen[0] ?? 0) + keys);
    let next = 0;
    const worker = async () => {
      while (next < keys) await this.#change(next++);
    };
    await Promise.all([...Array.from({ length: inFlight }, worker), heard]);
  }

  /** A wave of streams that follow a service each: one instance of every service changes, so that each stream hears of one change. */
  async ownWave(inFlight: number): Promise<void> {
    const heard = this.#all((this.#seen[0] ?? 0) + 1);
    let next = 0;
    const worker = async () => {
      while (next < this.#seen.length) await this.#change(next++ * INSTANCES);
    };
    await Promise.all([...Array.from({ length: inFlight }, worker), heard]);
  }

  close(): void {
    this.#dialect.close();
  }
}

/** Ends the benchmark, but lets the server's log say why first. */
function abort(message: string): void {
  setTimeout(() => {
    throw new Error(message);
  }, 500);
}

/** Streams that stop reading: the server may send `windowBytes` on each and no more. Returns what closes them. */
export async function openStalled(
  server: Running,
  count: number,
  options: { readonly windowBytes: number; readonly perConnection: number },
): Promise<Closer> {
  const wires: Wire[] = [];
  let isClosing = false;
  const onEnd = (why: string) => {
    if (!isClosing) abort(`a stalled stream is over: ${why}`);
  };
  for (let i = 0; i < count; i++) {
    let wire = wires[Math.floor(i / options.perConnection)];
    if (wire === undefined) wires.push((wire = await Wire.open(server.grpc, { streamWindowBytes: options.windowBytes })));
    const stream = wire.stream(PATH.watch, { onMessage: () => {}, onEnd });
    stream.send(watchBytes());
    stream.end();
  }
  return {
    close() {
      isClosing = true;
      for (const wire of wires) wire.close();
    },
  };
}
