/**
 * What DNS needs of other clusters: where a name leads of which nothing here can be chosen, and which namespaces have such names (semantics.md, DNS). Beside the
 * catalog's names (`dns-names.ts`), by the same index, over the summary replica.
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

/** Most places of a cluster that an answer is made of, as in a redirect. */
const MAX_PLACES = 16;
const HEALTH_OF: Readonly<Record<Band, Health>> = {
  [BAND.HEALTHY]: HEALTH.HEALTHY,
  [BAND.DEGRADED]: HEALTH.DEGRADED,
  [BAND.CRITICAL]: HEALTH.CRITICAL,
};

export interface ClusterNamesParts {
  readonly summaries: SummaryReads;
  /** Those of the catalog. */
  readonly dnsNames: Pick<DnsNames, "catchUp" | "follow">;
  /** The hosts of the listeners that tell: who hears of a nearer one would call itself. */
  readonly hosts: readonly string[];
  /** The zones that are served here, as the settings have them. */
  readonly zones: readonly string[];
  readonly now: () => Time;
}

export interface FoundCluster {
  /** Stands for the cluster: its targets are those of its ingress, and its ttl that of the summary. Undefined where nobody has the name. */
  readonly entry: EntryView | undefined;
  /** Names as in `nameOfKey`, of what the answer rests on beside the name itself. */
  readonly rests: readonly string[];
  /** From then on it may be another: the source is lost (`monoMs`), or the summary has ended (`wallMs`). Infinite where nothing ends. */
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
    this.#clusters = new BestClusters(summaries, (url) => mayTell(url, { hosts, zones }));
    // That a source is lost or found changes no record.
    summaries.onTurned((sources) => {
      for (const source of sources) for (const follower of this.#followers) follower.entryChanged(nameOfBeacon(source));
    });
  }

  /** HOT: once a DNS question. Takes in what changed in the catalog too, so that whoever follows hears of both. */
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

  /** The best cluster for a name of which nothing here can be chosen. `region`: where the asker is; that of the node if it has no place. */
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

/** Of a lost cluster nobody knows whether it is still there, as of an orphan. */
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

/** Whether whoever asks can be led to the place that a url names. A name in our own zones is none of a stranger's: it leads where we say, and some of them to any address. */
function mayTell(url: string, { hosts, zones }: Pick<ClusterNamesParts, "hosts" | "zones">): boolean {
  const { host = "", port = 0 } = advertisedTarget(url) ?? {};
  if (port === 0 || !isHost(host) || hosts.some((listening) => unsafeHostReasonForCallers(host, listening) !== undefined)) return false;
  return !zones.some((zone) => `.${plainName(host)}`.endsWith(`.${plainName(zone)}`));
}
