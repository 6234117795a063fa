/** A consistent copy of the catalog for a zone transfer. The copy is created in slices while the catalog continues to change. */
import { ReplicaCopy } from "../../catalog/copy/replica-copy.ts";
import { ReplicaFeed } from "../../catalog/copy/replica-feed.ts";
import { EntryStamper } from "../../catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../../catalog/entry/names.ts";
import { EntryIndex } from "../../catalog/query/entry-index.ts";
import { Slab } from "../../catalog/record/slab.ts";
import { TraitsPool } from "../../catalog/record/traits.ts";
import { Replica, type ReplicaOptions } from "../../catalog/replica/replica.ts";
import { DnsNames } from "../../discovery/dns-names.ts";
import { isAdmitted } from "../../discovery/policy-switch-queue.ts";
import { CatalogReads } from "../../discovery/reads.ts";
import type { AddressBlock } from "../../lib/addresses.ts";
import type { PolicySource } from "../../policy/set/verdict.ts";

/** Approximate number of records copied per step. Each record can have 64 aliases. */
const STEP_RECORDS = 50;

export interface CopySources {
  readonly reads: Pick<CatalogReads, "node" | "policy" | "replica">;
  readonly policies: PolicySource;
  readonly clusterId: string;
  readonly zones: readonly string[];
  readonly blocks: readonly AddressBlock[];
  /** The same options as for the replica. */
  readonly catalog: Pick<ReplicaOptions, "minTombstones" | "pastTouches" | "tombstoneTtlMs">;
}

export class ZoneCopy {
  readonly reads: CatalogReads;
  readonly dnsNames: DnsNames;
  readonly policies: PolicySource;
  readonly #sources: CopySources;
  readonly #replica: Replica;
  readonly #feed: ReplicaFeed;
  readonly #copy: ReplicaCopy;
  /** The revision up to which the names are indexed. */
  #named = 0;

  constructor(sources: CopySources) {
    const { reads, policies, clusterId, zones, blocks, catalog } = sources;
    const { replica: from, node } = reads;
    const { policy } = policies;
    const { nodeId } = node;
    const replica = new Replica(new EntryIndex(), new Slab(), {
      nodeId,
      generation: from.self.generation,
      lastSeq: 0,
      floor: 0,
      ...catalog,
    });
    replica.setAdmission((stored) => isAdmitted(policy, stored, clusterId));
    this.#sources = sources;
    this.#replica = replica;
    this.policies = { policy };
    this.#feed = new ReplicaFeed({ replica: from, isHeldUp: () => !this.#isSettled });
    this.#copy = new ReplicaCopy({ replica, stamper: new EntryStamper({ bounds: PROTOCOL_BOUNDS, traits: new TraitsPool() }) });
    this.dnsNames = new DnsNames(this.#namedReplica(replica), zones, blocks);
    this.reads = new CatalogReads(replica, { ...node, boot: "transfer" }, { policies: this.policies, onDenied: () => {} });
  }

  /** Whether the copy is complete. A complete copy no longer changes. */
  get isWhole(): boolean {
    return this.#copy.isWhole;
  }

  /** Whether the policy has changed since the start, so that the copy must be restarted. */
  get isOver(): boolean {
    return this.#sources.policies.policy !== this.policies.policy;
  }

  /** Copies the next records. */
  step(): void {
    this.#copy.hear(this.#feed.take(STEP_RECORDS));
    this.#replica.changesSince(this.#named, (_, revision) => {
      this.#named = revision;
      return true;
    });
    if (this.isWhole) {
      this.#named = this.#replica.revision;
      this.close();
    }
    this.dnsNames.refresh();
  }

  /** Stops receiving catalog changes. */
  close(): void {
    this.#feed.close();
  }

  /** Whether all records have been evaluated under the current policy. */
  get #isSettled(): boolean {
    return this.#sources.reads.policy === this.policies.policy;
  }

  /**
   * Returns the replica with a revision that increases with each slice. The records are copied in revision order before the replica has a revision,
   * so names can be indexed while copying.
   */
  #namedReplica(replica: Replica): ConstructorParameters<typeof DnsNames>[0] {
    const { lookup, origins, slab } = replica;
    const named = () => this.#named;
    return {
      lookup,
      origins,
      slab,
      get revision() {
        return named();
      },
      get collectedRevision() {
        return replica.collectedRevision;
      },
      changesSince: (since, visit) => replica.changesSince(since, visit),
      view: (key) => replica.view(key),
      winner: (stored) => replica.winner(stored),
    };
  }
}
