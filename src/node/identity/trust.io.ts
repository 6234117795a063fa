/**
 * Keeps the node's copy of roots, issuers, revocations and callers' tokens up to date: from the control store if the node has it, and otherwise from an
 * issuer. The revocations of every other cluster in the fabric come from an issuer there, because only an issuer's word counts. The copy is also on disk, so that everything that was revoked stays revoked after a start without an issuer.
 */
import { setTimeout as wait } from "node:timers/promises";
import { REVOCATIONS, TRUST } from "../../control/identity/records.ts";
import { checkSize, type TrustChange, TrustCopy } from "../../control/identity/trust.ts";
import { backoffMs } from "../../lib/backoff.ts";
import { mergedRevocations, NO_REVOCATIONS, type Revocations } from "../../lib/certificates/revocations.ts";
import { InvariantError, rethrowInvariant } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";
import { inRandomOrder } from "../../lib/rng.ts";
import { tokenIdOf } from "../../policy/identity/caller.ts";
import type { ManagedCallers } from "../../policy/identity/tenants.ts";
import type { TrustSource } from "../../services/identity/trust-stream.ts";
import type { ControlStore, StoreChanges } from "../../store/control/store.ts";
import type { NodeComponent } from "../components.io.ts";
import type { IdentityDirectory } from "./directory.io.ts";
import { followIssuer } from "./issuer-client.io.ts";

/**
 * A follower chooses an issuer again after this time, because a stolen issuer can hide its own revocation from the nodes that follow it.
 */
const FOLLOWED_MS = 600_000;
/** Time after which other clusters are looked for again. */
const OTHERS_MS = 5_000;
const RETRY = { baseMs: 500, maxMs: 15_000 } as const;

export interface NodeTrustOptions {
  readonly clusterId: string;
  /** Undefined if the node follows an issuer. */
  readonly store: ControlStore | undefined;
  /** Undefined if the node has no certificate from an issuer. */
  readonly directory: IdentityDirectory | undefined;
  /** Whether tokens of callers are used. */
  readonly isManaged: boolean;
  readonly defaultTenant: string;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly random: () => number;
}

type OnChange = Parameters<TrustSource["follow"]>[0];
type Addresses = readonly string[];

export class NodeTrust implements NodeComponent, TrustSource {
  /** The records of this cluster. */
  readonly copy: TrustCopy;
  readonly #options: NodeTrustOptions;
  /** The copies of all clusters. */
  readonly #copies: Map<string, TrustCopy>;
  readonly #followers = new Set<OnChange>();
  readonly #stop = new AbortController();
  #revocations: Revocations = NO_REVOCATIONS;
  /** When the copy was last known to be current. */
  #currentMonoMs = performance.now();
  #isStoreAway = false;

  constructor(options: NodeTrustOptions) {
    const { clusterId, directory } = options;
    this.#options = options;
    this.#copies = new Map(directory?.readTrust(clusterId));
    this.copy = this.#copyOf(clusterId);
    this.#merge();
  }

  /** The revocations of all clusters. */
  get revocations(): Revocations {
    return this.#revocations;
  }

  follow(onChange: OnChange): () => void {
    this.#followers.add(onChange);
    return () => this.#followers.delete(onChange);
  }

  /** The tokens of callers and the revocations, for the listeners. */
  get managed(): ManagedCallers {
    const { isManaged, clusterId, defaultTenant } = this.#options;
    const { credentials } = this.copy;
    const identityOf = ({ digest, principal, tenant, roles, expiresWallMs: untilWallMs }: (typeof credentials)[number]["record"]) => ({
      principal,
      tenant: tenant === "" ? defaultTenant : tenant,
      cluster: clusterId,
      roles,
      isAuthenticated: true,
      tokenId: tokenIdOf(digest),
      untilWallMs,
    });
    const accepted = isManaged ? credentials : [];
    return {
      credentials: accepted.map(({ record }) => ({ scheme: "bearer", digest: record.digest, identity: identityOf(record) })),
      revocations: this.#revocations,
    };
  }

  start(): void {
    const { store, clusterId } = this.#options;
    if (store !== undefined) void this.#watchStore(store);
    else void this.#followIssuers(clusterId, () => this.copy.issuers.map(({ address }) => address));
  }

  /** Follows an issuer of each other cluster. `issuersOf` returns the addresses of their issuers, as far as they are known now. */
  followOthers(issuersOf: () => ReadonlyMap<string, Addresses>): void {
    const followed = new Set<string>();
    const timer = setInterval(() => {
      for (const clusterId of issuersOf().keys()) {
        if (followed.has(clusterId)) continue;
        followed.add(clusterId);
        const addresses = () => issuersOf().get(clusterId) ?? [];
        void this.#followIssuers(clusterId, addresses).finally(() => followed.delete(clusterId));
      }
    }, OTHERS_MS).unref();
    this.#stop.signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  }

  stop(): void {
    this.#stop.abort();
  }

  /** Age of the copy. 0 while the control store of this node answers. */
  get ageMs(): number {
    return this.#options.store === undefined || this.#isStoreAway ? performance.now() - this.#currentMonoMs : 0;
  }

  observe(): void {
    this.#options.metrics.set("waymark_identity_follow_age_seconds", {}, this.ageMs / 1000);
  }

  async #watchStore(store: ControlStore): Promise<void> {
    using watch = store.watch(TRUST);
    this.#stop.signal.addEventListener("abort", () => watch.close());
    const waiting: TrustChange[] = [];
    let isReset = false;
    for (let failures = 0; !this.#stop.signal.aborted; ) {
      try {
        const step: StoreChanges | undefined = await watch.next();
        if (step === undefined) return;
        failures = 0;
        this.#isStoreAway = false;
        if (step.isReset) waiting.length = 0;
        isReset ||= step.isReset;
        waiting.push(...step.changes.map(({ key, item }) => ({ key, value: item?.value })));
        if (!step.isCurrent) continue;
        this.#apply(this.copy, waiting.splice(0), isReset);
        isReset = false;
      } catch (error) {
        rethrowInvariant(error);
        if (!this.#isStoreAway) this.#currentMonoMs = performance.now();
        this.#isStoreAway = true;
        if (failures === 0) this.#options.log.warn({ err: error }, "the control store is unavailable; known revocations stay in force");
        await this.#pause(failures++);
      }
    }
  }

  /** Follows one issuer after the other. Returns when no issuer of another cluster is known. */
  async #followIssuers(clusterId: string, addresses: () => Addresses): Promise<void> {
    const { log, random } = this.#options;
    const copy = this.#copyOf(clusterId);
    let [failures, why] = [0, "no issuer is known"];
    for (let known = addresses(); !this.#stop.signal.aborted && (copy === this.copy || known.length > 0); known = addresses()) {
      let wasCurrent = false;
      // Followers spread over the issuers.
      for (const address of inRandomOrder(known, random)) {
        why = await this.#followOne(address, copy, () => {
          wasCurrent = true;
        });
        if (this.#stop.signal.aborted) return;
        log.debug({ why, clusterId }, "no longer following this issuer");
        if (wasCurrent) break;
      }
      if (!wasCurrent && failures === 0)
        log.warn({ why, clusterId }, "no issuer of this cluster is followed; known revocations stay in force");
      failures = wasCurrent ? 0 : failures + 1;
      await this.#pause(failures);
    }
  }

  async #followOne(address: string, copy: TrustCopy, onCurrent: () => void): Promise<string> {
    const { directory } = this.#options;
    if (directory === undefined) throw new InvariantError("a node without a certificate follows an issuer");
    const waiting: TrustChange[] = [];
    let isReset = false;
    try {
      const { roots, nodePem: own } = directory;
      const server = { address, clusterId: copy.clusterId, roots, own, revocations: this.#revocations };
      return await followIssuer(
        server,
        (step) => {
          if (step.isReset) waiting.length = 0;
          isReset ||= step.isReset;
          waiting.push(...step.changes);
          checkSize(waiting);
          if (copy === this.copy) this.#currentMonoMs = performance.now();
          if (!step.isComplete) return;
          onCurrent();
          if (waiting.length > 0 || isReset) this.#apply(copy, waiting.splice(0), isReset);
          isReset = false;
        },
        AbortSignal.any([this.#stop.signal, AbortSignal.timeout(FOLLOWED_MS)]),
      );
    } catch (error) {
      rethrowInvariant(error);
      return error instanceof Error ? error.message : String(error);
    }
  }

  async #pause(failures: number): Promise<void> {
    const { random } = this.#options;
    await wait(backoffMs(failures, random(), RETRY), undefined, { ref: false, signal: this.#stop.signal }).catch(() => {});
  }

  #copyOf(clusterId: string): TrustCopy {
    const copy = this.#copies.get(clusterId) ?? new TrustCopy(clusterId, clusterId === this.#options.clusterId ? TRUST : REVOCATIONS);
    this.#copies.set(clusterId, copy);
    return copy;
  }

  #merge(): void {
    this.#revocations = mergedRevocations([...this.#copies.values()].map(({ revocations }) => revocations));
  }

  #apply(copy: TrustCopy, changes: readonly TrustChange[], isReset: boolean): void {
    const { directory, log } = this.#options;
    const rootsBefore = this.copy.roots;
    copy.apply(changes, isReset);
    this.#merge();
    if (copy === this.copy) this.#currentMonoMs = performance.now();
    try {
      directory?.keepTrust(this.#copies);
      // Without any root, the node would accept no peer, so an empty list is not applied.
      if (this.copy.roots !== rootsBefore && this.copy.roots !== "") directory?.keepRoots(this.copy.roots);
    } catch (error) {
      log.error({ err: error }, "revocations and roots not written to disk");
    }
    for (const onChange of this.#followers) onChange(changes, isReset, copy);
  }
}
