/**
 * Keeps the node's copy of roots, issuers, revocations and callers' tokens up to date: from the control store if the node has it, and otherwise from an
 * issuer. The copy is also on disk, so that everything that was revoked stays revoked after a start without an issuer.
 */
import { setTimeout as wait } from "node:timers/promises";
import { TRUST_PREFIXES, type TrustChange, TrustCopy } from "../../control/identity/trust.ts";
import { backoffMs } from "../../lib/backoff.ts";
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

export class NodeTrust implements NodeComponent, TrustSource {
  readonly copy: TrustCopy;
  readonly #options: NodeTrustOptions;
  readonly #followers = new Set<OnChange>();
  readonly #stop = new AbortController();
  /** When the copy was last known to be current. */
  #currentMonoMs = performance.now();
  #isStoreAway = false;

  constructor(options: NodeTrustOptions) {
    this.#options = options;
    this.copy = new TrustCopy(options.clusterId);
    this.copy.apply(options.directory?.readTrust() ?? []);
  }

  get records(): ReadonlyMap<string, Uint8Array> {
    return this.copy.records;
  }

  follow(onChange: OnChange): () => void {
    this.#followers.add(onChange);
    return () => this.#followers.delete(onChange);
  }

  /** The tokens of callers and the revocations, for the listeners. */
  get managed(): ManagedCallers {
    const { isManaged, clusterId, defaultTenant } = this.#options;
    const { credentials, revocations } = this.copy;
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
      revocations,
    };
  }

  start(): void {
    const { store } = this.#options;
    if (store === undefined) void this.#followIssuers();
    else for (const prefix of TRUST_PREFIXES) void this.#watchStore(store, prefix);
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

  async #watchStore(store: ControlStore, prefix: string): Promise<void> {
    using watch = store.watch(prefix);
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
        this.#apply(waiting.splice(0), isReset ? prefix : undefined);
        isReset = false;
      } catch (error) {
        rethrowInvariant(error);
        if (!this.#isStoreAway) this.#currentMonoMs = performance.now();
        this.#isStoreAway = true;
        if (failures === 0)
          this.#options.log.warn({ err: error, prefix }, "the control store is unavailable; known revocations stay in force");
        await this.#pause(failures++);
      }
    }
  }

  async #followIssuers(): Promise<void> {
    const { log } = this.#options;
    let failures = 0;
    while (!this.#stop.signal.aborted) {
      let wasCurrent = false;
      for (const address of this.#addresses()) {
        const why = await this.#followOne(address, () => {
          wasCurrent = true;
        });
        if (this.#stop.signal.aborted) return;
        log.debug({ why }, "no longer following this issuer");
        if (wasCurrent) break;
      }
      failures = wasCurrent ? 0 : failures + 1;
      await this.#pause(failures);
    }
  }

  async #followOne(address: string, onCurrent: () => void): Promise<string> {
    const { directory, clusterId } = this.#options;
    if (directory === undefined) throw new InvariantError("a node without a certificate follows an issuer");
    const waiting: TrustChange[] = [];
    let isReset = false;
    try {
      const server = { address, clusterId, roots: directory.roots, own: directory.nodePem };
      return await followIssuer(
        server,
        (step) => {
          if (step.isReset) waiting.length = 0;
          isReset ||= step.isReset;
          waiting.push(...step.changes);
          this.#currentMonoMs = performance.now();
          if (!step.isComplete) return;
          onCurrent();
          if (waiting.length > 0 || isReset) this.#apply(waiting.splice(0), isReset ? "" : undefined);
          isReset = false;
        },
        AbortSignal.any([this.#stop.signal, AbortSignal.timeout(FOLLOWED_MS)]),
      );
    } catch (error) {
      rethrowInvariant(error);
      return error instanceof Error ? error.message : String(error);
    }
  }

  /** The addresses of the issuers, in random order, so that followers spread. */
  #addresses(): readonly string[] {
    const { directory, random } = this.#options;
    const known = this.copy.issuers.length > 0 ? this.copy.issuers : (directory?.issuers() ?? []);
    return inRandomOrder(known, random).map(({ address }) => address);
  }

  async #pause(failures: number): Promise<void> {
    const { random } = this.#options;
    await wait(backoffMs(failures, random(), RETRY), undefined, { ref: false, signal: this.#stop.signal }).catch(() => {});
  }

  #apply(changes: readonly TrustChange[], resetPrefix: string | undefined): void {
    const { directory, log } = this.#options;
    const rootsBefore = this.copy.roots;
    this.copy.apply(changes, resetPrefix);
    this.#currentMonoMs = performance.now();
    try {
      directory?.keepTrust(this.copy.records);
      // Without any root, the node would accept no peer, so an empty list is not applied.
      if (this.copy.roots !== rootsBefore && this.copy.roots !== "") directory?.keepRoots(this.copy.roots);
    } catch (error) {
      log.error({ err: error }, "revocations and roots not written to disk");
    }
    for (const onChange of this.#followers) onChange(changes, resetPrefix !== undefined);
  }
}
