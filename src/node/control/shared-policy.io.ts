/**
 * The policy in the control store that the nodes share. A version is put there before it is in force anywhere, and other nodes take it from there,
 * as they take it from links. Each node keeps its own versions, so it knows its policy without the store, and the store has only the newest version.
 */
import { setTimeout as wait } from "node:timers/promises";
import { count, decoderOf, decodeStore, encodeRecord, STORE_KEY, text } from "../../control/leadership/records.ts";
import { rethrowInvariant, WaymarkError } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import type { TaskRunner } from "../../policy/run-tasks.io.ts";
import { decodeFacts } from "../../policy/versions/codec.ts";
import type { PolicyStore } from "../../policy/versions/policy-store.ts";
import { isNewer, isSamePlace, NO_PLACE, type VersionPlace } from "../../policy/versions/version.ts";
import { allItems } from "../../store/control/all-items.io.ts";
import type { ControlStore, StoreWatch, StoreWrite } from "../../store/control/store.ts";

/** The head of the newest version. It is written after all parts of the version. */
const HEAD = "policy/newest";
const PARTS = "policy-parts/";
/** Maximum size of a part, so that each store accepts it. */
const PART_BYTES = 512 * 1024;
/** Time until the comparison is tried again after a failure. */
const RETRY_MS = 200;

const decodePlace = decoderOf<VersionPlace>({ number: count, hlc: count, nodeId: text, checksum: text });

/** The methods of a store that `publishPolicy` needs. */
type PolicyTarget = Pick<ControlStore, "compareAndSwap" | "get" | "list" | "transact">;

export interface SharedPolicyOptions {
  readonly store: ControlStore;
  readonly clusterId: string;
  /** The policy of this node. */
  readonly policyStore: PolicyStore;
  readonly tasks: TaskRunner;
  readonly log: Pick<Log, "debug" | "error">;
}

export class SharedPolicy {
  readonly #options: SharedPolicyOptions;
  readonly #watch: StoreWatch;
  #woken = Promise.withResolvers<void>();
  #isClosed = false;

  constructor(options: SharedPolicyOptions) {
    this.#options = options;
    this.#watch = options.store.watch(HEAD);
  }

  /** Compares the store with this node when one of them has changed, until `close`. After a failure, it retries until it succeeds. */
  async run(): Promise<void> {
    let changed: Promise<unknown> | undefined;
    while (!this.#isClosed) {
      this.#woken = Promise.withResolvers();
      try {
        await this.#compare();
        changed ??= this.#watch.next().finally(() => {
          changed = undefined;
        });
        await Promise.race([changed, this.#woken.promise]);
      } catch (error) {
        rethrowInvariant(error);
        this.#options.log.debug({ err: error }, "policy not compared with the control store");
        await wait(RETRY_MS, undefined, { ref: false });
      }
    }
  }

  /** Must be called when the newest version on this node has changed. */
  wake(): void {
    this.#woken.resolve();
  }

  /** Like `publishPolicy`. Also rejects with `store_unavailable` if the store belongs to another cluster. */
  async publish(bytes: Uint8Array): Promise<boolean> {
    await this.#checkOwner();
    return publishPolicy(this.#options.store, bytes);
  }

  close(): void {
    this.#isClosed = true;
    this.#watch.close();
  }

  /** Applies the store's version if it is newer. If this node's version is newer, puts that version into the store. */
  async #compare(): Promise<void> {
    const { store, policyStore, tasks } = this.#options;
    await this.#checkOwner();
    const { place } = policyStore.engine;
    const head = await readHead(store);
    if (isNewer(head.place, place)) await this.#adopt(head.place);
    else if (isNewer(place, head.place)) {
      const bytes = await tasks.run(policyStore.encoded(place.number));
      if (bytes !== undefined) await put(store, bytes, head.version);
    }
  }

  async #adopt(place: VersionPlace): Promise<void> {
    const { store, clusterId, policyStore, tasks, log } = this.#options;
    const parts: Uint8Array[] = [];
    for await (const { value } of allItems(store, partsKey(place))) parts.push(value);
    // Another node can have put a newer version there meanwhile.
    if (parts.length === 0) return;
    const result = await tasks.run(policyStore.adopt(place, Buffer.concat(parts), { nodeId: "", clusterId }));
    if (!result.isAdopted && result.fault !== "")
      log.error({ number: place.number, fault: result.fault }, "policy version in the control store not applied");
  }

  async #checkOwner(): Promise<void> {
    const { store, clusterId } = this.#options;
    const item = await store.get(STORE_KEY);
    const owner = item && decodeStore(item.value)?.clusterId;
    if (owner === clusterId) return;
    const fault =
      owner === undefined ? `its record ${STORE_KEY} cannot be read` : `it belongs to the cluster ${owner}; set another store.prefix`;
    const why = item === undefined ? "it is new; try again in a few seconds" : fault;
    throw new WaymarkError("store_unavailable", `the control store cannot be used for the policy: ${why}`);
  }
}

/**
 * Puts a version into the store, unless the store has another version with this number or a higher one. Returns whether the store now has this version.
 * Rejects with `store_unavailable` if the store does not answer.
 */
export async function publishPolicy(store: PolicyTarget, bytes: Uint8Array): Promise<boolean> {
  const head = await readHead(store);
  const place = placeOf(bytes);
  return isSamePlace(place, head.place) || (place.number > head.place.number && (await put(store, bytes, head.version)));
}

/** Puts a version into the store if the head still has `headVersion` there. Otherwise returns false. */
async function put(store: PolicyTarget, bytes: Uint8Array, headVersion: number): Promise<boolean> {
  const place = placeOf(bytes);
  for (let at = 0; at * PART_BYTES < bytes.length; at++) {
    const value = bytes.subarray(at * PART_BYTES, (at + 1) * PART_BYTES);
    await store.transact([], [{ key: partsKey(place) + `${at}`.padStart(4, "0"), value }]);
  }
  const { number, hlc, nodeId, checksum } = place;
  const { isSwapped } = await store.compareAndSwap(HEAD, headVersion, encodeRecord({ number, hlc, nodeId, checksum }));
  if (isSwapped) await dropBefore(store, number).catch(rethrowInvariant);
  return isSwapped;
}

/** Removes the parts of earlier numbers. A failure is not an error: the next version removes them. */
async function dropBefore(store: PolicyTarget, number: number): Promise<void> {
  const { items } = await store.list(PARTS, { limit: 100 });
  const removals = items.filter(({ key }) => key < PARTS + padded(number)).map(({ key }): StoreWrite => ({ key, value: undefined }));
  if (removals.length > 0) await store.transact([], removals);
}

/** Returns the place before all versions if there is no head, or if it cannot be read. */
async function readHead(store: PolicyTarget): Promise<{ readonly place: VersionPlace; readonly version: number }> {
  const { value, version } = (await store.get(HEAD)) ?? { value: new Uint8Array(), version: 0 };
  return { place: decodePlace(value) ?? NO_PLACE, version };
}

function placeOf(bytes: Uint8Array): VersionPlace {
  const read = decodeFacts(bytes);
  if (!read.ok) throw new WaymarkError("internal", `the policy version cannot be read: ${read.fault}`);
  return read.version;
}

function padded(number: number): string {
  return `${number}`.padStart(16, "0");
}

/** The start of the keys of the parts. Two versions of the same number have different keys. */
function partsKey({ number, hlc, nodeId, checksum }: VersionPlace): string {
  return `${PARTS}${padded(number)}/${hlc}-${nodeId}-${checksum.slice(0, 16)}/`;
}
