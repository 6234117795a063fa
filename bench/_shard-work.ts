/** Work for shards at a steady rate, whose effects go through a log that checks fences: what a planned drain of an owner costs it. */
import { create, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { ShardSchema } from "../gen/waymark/control/v1/shard_pb.js";
import { type Client, type ShardClient, wrongEpoch } from "../src/client/index.ts";
import { compareFences, type FenceToken } from "../src/lib/fence.ts";
import { LineClient, serveLines } from "./_lines.ts";
import { sleep } from "./_mesh.ts";

/** Time (ms) that an owner works on an item before it appends the effect: a short transaction of a database. */
export const WORK_MS = 20;

/** What a caller sends to an owner. */
export interface WorkItem {
  readonly item: string;
  /** The value of the metadata `waymark-shard`. */
  readonly metadata: string;
}

/** The answer of an owner. It has neither field if the item is done. */
export interface ItemAnswer {
  /** The state of a shard for which the owner accepts no work. */
  readonly shard?: JsonValue;
  readonly error?: string;
}

/** What an owner appends to the log for an item. */
export interface Effect {
  readonly id: number;
  readonly item: string;
  readonly fence: FenceToken;
  readonly owner: string;
}

export interface Appended {
  readonly isAccepted: boolean;
}

/** A resource that rejects the effects of earlier owners. */
export class FencedLog {
  readonly port: Promise<number> = serveLines((effect) => this.#append(effect as Effect));
  readonly #fences = new Map<number, FenceToken>();
  readonly #effects = new Map<number, { readonly owner: string; readonly atMs: number }[]>();
  readonly #counts = new Map<string, number>();
  rejected = 0;

  /** Number of effects of an item. */
  countOf(item: string): number {
    return this.#counts.get(item) ?? 0;
  }

  /** For each shard, the longest time (ms) between the last effect of an owner and the first of the next one since a time of the monotonic clock. */
  handovers(sinceMs: number): readonly number[] {
    const gaps: number[] = [];
    for (const effects of this.#effects.values())
      for (const [i, { owner, atMs }] of effects.entries()) {
        const before = effects[i - 1];
        if (before !== undefined && before.owner !== owner && atMs >= sinceMs) gaps.push(atMs - before.atMs);
      }
    return gaps;
  }

  #append({ id, item, fence, owner }: Effect): Appended {
    const last = this.#fences.get(id);
    if (last !== undefined && compareFences(fence, last) < 0) {
      this.rejected += 1;
      return { isAccepted: false };
    }
    this.#fences.set(id, fence);
    this.#counts.set(item, this.countOf(item) + 1);
    const effects = this.#effects.get(id) ?? [];
    effects.push({ owner, atMs: performance.now() });
    this.#effects.set(id, effects);
    return { isAccepted: true };
  }
}

interface SentItem {
  readonly item: string;
  readonly sentMs: number;
  /** Undefined: it was not answered yet. */
  tookMs?: number;
  error?: string;
}

const TICK_MS = 5;

/** Sends an item for each shard per interval through the client, which finds the owners. */
export class ShardWork {
  readonly sent: SentItem[] = [];
  readonly #shards: ShardClient;
  readonly #keys: readonly string[];
  readonly #intervalMs: number;
  readonly #owners = new Map<string, Promise<LineClient>>();
  readonly #open = new Set<Promise<void>>();
  readonly #timer: NodeJS.Timeout;
  readonly #startMs = performance.now();

  /** The routes must be known. */
  constructor(client: Client, namespace: string, { count, intervalMs }: { readonly count: number; readonly intervalMs: number }) {
    this.#shards = client.shards(namespace);
    this.#keys = keysOf(this.#shards, count);
    this.#intervalMs = intervalMs;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /** The latencies (ms) of items that were sent in a time of the monotonic clock. */
  latencies(fromMs: number, toMs: number): readonly number[] {
    return this.sent.flatMap(({ sentMs, tookMs }) => (tookMs !== undefined && sentMs >= fromMs && sentMs < toMs ? [tookMs] : []));
  }

  /** Sends no more items, and waits for the answers. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.race([Promise.all(this.#open), sleep(10_000)]);
    for (const owner of this.#owners.values()) (await owner).close();
  }

  /** The items are spread evenly over the interval. */
  #tick(): void {
    const dueCount = ((performance.now() - this.#startMs) / this.#intervalMs) * this.#keys.length;
    while (this.sent.length < dueCount) {
      const key = this.#keys[this.sent.length % this.#keys.length] ?? "";
      const sent: SentItem = { item: `${key}/${this.sent.length}`, sentMs: performance.now() };
      this.sent.push(sent);
      const call = this.#send(key, sent).finally(() => this.#open.delete(call));
      this.#open.add(call);
    }
  }

  async #send(key: string, sent: SentItem): Promise<void> {
    try {
      await this.#shards.call(key, async ({ target, metadata }) => {
        const owner = await this.#ownerAt(target);
        const { shard, error } = await owner.ask<ItemAnswer>({ item: sent.item, metadata } satisfies WorkItem);
        if (shard !== undefined) throw wrongEpoch(create(ShardSchema, fromJson(ShardSchema, shard)));
        if (error !== undefined) throw new Error(error);
      });
    } catch (error) {
      sent.error = String(error);
    }
    sent.tookMs = performance.now() - sent.sentMs;
  }

  #ownerAt(target: string): Promise<LineClient> {
    const known = this.#owners.get(target) ?? LineClient.open(Number(target.split(":")[1]));
    this.#owners.set(target, known);
    return known;
  }
}

/** One key for each shard. */
function keysOf(shards: ShardClient, count: number): readonly string[] {
  const keys = new Map<number, string>();
  for (let i = 0; keys.size < count; i++) {
    const { id } = shards.route(`key-${i}`);
    if (!keys.has(id)) keys.set(id, `key-${i}`);
  }
  return [...keys.values()];
}
