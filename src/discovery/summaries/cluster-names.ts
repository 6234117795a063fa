/**
 * Provides the data that DNS needs about other clusters: to which cluster a name without a suitable local instance resolves, and which namespaces
 * have such names (semantics.md, DNS). Uses the same index as the catalog's names (`dns-names.ts`), over the summary replica.
 */
import { isControlNamespace } from "../../catalog/entry/names.ts";
import { type EntryView, viewOfPlaces } from "../../catalog/entry/view.ts";
import { type EntryKey, HEALTH, type Health, nameOfKey } from "../../catalog/record/record.ts";
import { advertisedTarget } from "../../consumer/hosting.ts";
import { isHost, unsafeHostReasonForCallers } from "../../lib/addresses.ts";
import type { Time } from "../../lib/machine.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { beaconKey } from "../../summary/keys.ts";
import { BAND, type Band } from "../../summary/summary.ts";
import { DnsNames, type NameObserver, type NameView, plainName } from "../dns-names.ts";
import { type BestCluster, BestClusters } from "./best-clusters.ts";
import type { SummaryReads } from "./summary-reads.ts";

/** Maximum number of a cluster's endpoints in an answer, as in a redirect. */
const MAX_PLACES = 16;
const HEALTH_OF: Readonly<Record<Band, Health>> = {
  [BAND.HEALTHY]: HEALTH.HEALTHY,
  [BAND.DEGRADED]: HEALTH.DEGRADED,
  [BAND.CRITICAL]: HEALTH.CRITICAL,
};

export interface ClusterNamesParts {
  readonly summaries: SummaryReads;
  /** The catalog's names. */
  readonly dnsNames: Pick<DnsNames, "catchUp" | "follow">;
  /**
   * The hosts on which the DNS listeners listen. Answers to remote clients must not contain addresses that are valid only locally, such as loopback
   * addresses, because the clients would connect to themselves.
   */
  readonly hosts: readonly string[];
  /** The zones that this node serves, as written in the settings. */
  readonly zones: readonly string[];
  readonly now: () => Time;
}

export interface FoundCluster {
  /**
   * Represents the cluster: its targets are the endpoints of the cluster's ingress, and its ttl is the summary's ttl. Undefined if no cluster has the
   * name.
   */
  readonly entry: EntryView | undefined;
  /** Names (as in `nameOfKey`) on which the answer depends, in addition to the name itself. */
  readonly rests: readonly string[];
  /**
   * The time after which the answer may change, because the source is lost (`monoMs`) or the summary has expired (`wallMs`). Infinite if there is no
   * such time.
   */
  readonly ends: Time;
}

const NO_ENDS: Time = { monoMs: Number.POSITIVE_INFINITY, wallMs: Number.POSITIVE_INFINITY };

export class ClusterNames {
  readonly now: () => Time;
  readonly #summaries: SummaryReads;
  readonly #dnsNames: ClusterNamesParts["dnsNames"];
  readonly #names: DnsNames;
  readonly #clusters: BestClusters;
  readonly #followers = new Set<NameObserver>();

  constructor({ summaries, dnsNames, hosts, zones, now }: ClusterNamesParts) {
    this.now = now;
    this.#dnsNames = dnsNames;
    this.#summaries = summaries;
    this.#names = new DnsNames(summaries.reads.replica, []);
    this.#clusters = new BestClusters(summaries, (url) => isSafeEndpoint(url, { hosts, zones }));
    // The loss or return of a source does not change any records.
    summaries.onTurned((sources) => {
      for (const source of sources) for (const follower of this.#followers) follower.entryChanged(nameOfBeacon(source));
    });
  }

  /** Indexes changes to summaries and to the catalog, so that observers are notified of both. HOT: once per DNS question. */
  catchUp(): void {
    this.#dnsNames.catchUp();
    this.#names.catchUp();
  }

  follow(follower: NameObserver): void {
    this.#followers.add(follower);
    this.#dnsNames.follow(follower);
    this.#names.follow(follower);
  }

  /** As in `DnsNames`. */
  hasNameUnder(suffix: string, zone: string, view: NameView): boolean {
    this.#names.catchUp();
    const sees = (namespace: string) => !isControlNamespace(namespace) && view.sees(namespace);
    const { viewerClass } = view;
    const own = viewerClass && {
      ...viewerClass,
      sees: (namespace: string) => !isControlNamespace(namespace) && viewerClass.sees(namespace),
    };
    return this.#names.hasNameUnder(suffix, zone, { ...view, sees, viewerClass: own });
  }

  /**
   * Returns the best cluster for a name without a suitable local instance. `region`: the caller's region. Defaults to this node's region.
   */
  find(caller: Caller, name: Pick<EntryKey, "kind" | "name" | "namespace">, region: string | undefined): FoundCluster {
    const { reads, sources } = this.#summaries;
    const time = this.now();
    const found = this.#clusters.find({ caller, name, visited: [], region: region ?? reads.node.region, time });
    const rests = found.sources.map(nameOfBeacon);
    const { best } = found;
    if (best === undefined) return { entry: undefined, rests, ends: NO_ENDS };
    const freshMs = best.isStale ? Number.POSITIVE_INFINITY : sources.freshMs(best.source);
    const ends = { monoMs: time.monoMs + freshMs, wallMs: best.notAfterWallMs };
    return { entry: entryOf(name, best, freshMs), rests, ends };
  }
}

function nameOfBeacon(source: string): string {
  return nameOfKey(beaconKey(source));
}

/** Returns the entry that represents a cluster. As with an orphan, it is unknown whether a lost cluster still exists. */
function entryOf(name: Pick<EntryKey, "kind" | "name" | "namespace">, best: BestCluster, freshMs: number): EntryView {
  const targets = best.urls.slice(0, MAX_PLACES).flatMap((url) => advertisedTarget(url) ?? []);
  return viewOfPlaces(targets, {
    key: { ...name, instanceId: "", clusterId: best.source },
    scope: best.channel,
    region: best.region,
    ttlMs: Math.min(best.ttlMs, freshMs),
    health: best.isStale ? HEALTH.ORPHANED : HEALTH_OF[best.band],
  });
}

/**
 * Whether a caller can be directed to the endpoint of a URL. Another cluster's URL must not use a name in this node's zones, because these zones
 * determine the address of the name, and some of their names can resolve to any address.
 */
function isSafeEndpoint(url: string, { hosts, zones }: Pick<ClusterNamesParts, "hosts" | "zones">): boolean {
  const { host = "", port = 0 } = advertisedTarget(url) ?? {};
  if (port === 0 || !isHost(host) || hosts.some((listening) => unsafeHostReasonForCallers(host, listening) !== undefined)) return false;
  return !zones.some((zone) => `.${plainName(host)}`.endsWith(`.${plainName(zone)}`));
}
