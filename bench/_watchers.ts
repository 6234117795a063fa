/** Many watch streams on one peer, and changes for them to hear of. */
import { countField } from "./_frames.ts";
import type { Running } from "./_processes.ts";
import { type Stream, Wire } from "./_wire.ts";
import { INSTANCES, PATH, registerBytes, watchBytes } from "./_work.ts";
import { ETCD_PATH, etcdPut, etcdWatch, type Sizes } from "./adapters/etcd.ts";

export const STREAMS_A_CONNECTION = 100;

/** A change that has not reached everybody by then never will. */
const LATE_MS = 60_000;
const MAX_TRIES = 50;
const RETRY_MS = 100;

/** How each peer is watched and changed. */
interface Dialect {
  readonly watch: string;
  readonly watchBytes: (service?: number) => Uint8Array;
  /** Tag of a change in a watch message. */
  readonly changeTag: number;
  readonly change: string;
  readonly changeBytes: (k: number, version: number) => Uint8Array;
}

export function dialectOf(server: Running, { etcdValue }: Sizes): Dialect {
  if (server.name === "waymark")
    return {
      watch: PATH.watch,
      watchBytes,
      changeTag: 0x0a,
      change: PATH.register,
      changeBytes: (k, version) => registerBytes(k, k + 1, { version }),
    };
  return {
    watch: ETCD_PATH.watch,
    watchBytes: etcdWatch,
    changeTag: 0x5a,
    change: ETCD_PATH.put,
    changeBytes: (k, version) => etcdPut(k, Buffer.from(etcdValue).fill(String(version % 10), 0, 1)),
  };
}

export interface Closer {
  close(): void;
}

/** Streams that all follow the namespace, or each a service of its own, and one connection that changes it. */
export class Watchers {
  readonly #server: Running;
  readonly #dialect: Dialect;
  readonly #wires: Wire[] = [];
  readonly #streams: Stream[] = [];
  readonly #changer: Wire;
  readonly #seen: Float64Array;
  readonly #isOwn: boolean;
  #version = 0;
  #isClosing = false;
  #greeted = 0;
  #atLeast = Number.POSITIVE_INFINITY;
  #behind = 0;
  #caughtUp: () => void = () => {};
  /** Changes delivered so far, over all streams. */
  delivered = 0;
  /** Changes the server refused and was asked for again. */
  refusals = 0;

  private constructor(server: Running, sizes: Sizes, options: { readonly count: number; readonly changer: Wire; readonly isOwn: boolean }) {
    const { count, changer, isOwn } = options;
    this.#server = server;
    this.#isOwn = isOwn;
    this.#dialect = dialectOf(server, sizes);
    this.#seen = new Float64Array(count);
    this.#changer = changer;
  }

  /** Opens `count` streams and waits until each has its first message: END of the snapshot, or etcd's "created". `isOwn`: stream i follows service i. */
  static async open(server: Running, sizes: Sizes, count: number, { isOwn = false } = {}): Promise<Watchers> {
    const watchers = new Watchers(server, sizes, { count, changer: await Wire.open(server.grpc), isOwn });
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(
        () => reject(new Error(`${server.name}: ${count - watchers.#greeted} of ${count} watches have not begun`)),
        LATE_MS,
      );
      const begun = () => {
        clearTimeout(late);
        resolve();
      };
      watchers.#openAll(count, begun).catch(reject);
    });
    watchers.delivered = 0;
    watchers.#seen.fill(0);
    return watchers;
  }

  async #openAll(count: number, onGreeted: () => void): Promise<void> {
    const { watch } = this.#dialect;
    for (let i = 0; i < count; i++) {
      let wire = this.#wires[Math.floor(i / STREAMS_A_CONNECTION)];
      if (wire === undefined) this.#wires.push((wire = await Wire.open(this.#server.grpc)));
      let isGreeted = false;
      const stream = wire.stream(watch, {
        onMessage: (bytes, start, end) => {
          if (!isGreeted && this.#isGreeting(bytes, start, end)) {
            isGreeted = true;
            this.#greeted += 1;
            if (this.#greeted === count) onGreeted();
          }
          this.#heard(i, countField(bytes, start, end, this.#dialect.changeTag));
        },
        onEnd: (why) => {
          if (!this.#isClosing) abort(`${this.#server.name} ended watch ${i}: ${why}`);
        },
      });
      stream.send(this.#dialect.watchBytes(this.#isOwn ? i : undefined));
      if (this.#server.name === "waymark") stream.end();
      this.#streams.push(stream);
    }
  }

  /** Snapshot END (field 5, value 3) or "created" (field 3). */
  #isGreeting(bytes: Uint8Array, start: number, end: number): boolean {
    if (this.#server.name === "etcd") return countField(bytes, start, end, 0x18) > 0;
    return countField(bytes, start, end, 0x22) > 0;
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
    const bytes = this.#dialect.changeBytes(k, this.#version);
    for (let tries = 1; ; tries++) {
      try {
        await this.#changer.unary(this.#dialect.change, bytes);
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
    this.#isClosing = true;
    for (const wire of [...this.#wires, this.#changer]) wire.close();
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
