/**
 * The parts that answer readers from a catalog: reads, watches, DNS names, policy changes and limits. Nodes, read workers and resolvers build these
 * parts with this file. Only the source of the catalog and the policy, and the component that writes to the catalog, are different in each.
 */
import { EntryIndex } from "../../catalog/query/entry-index.ts";
import { Slab } from "../../catalog/record/slab.ts";
import { Replica, type ReplicaOptions } from "../../catalog/replica/replica.ts";
import type { NameIndexBounds } from "../../catalog/watch/name-index.ts";
import type { Settings } from "../../config/settings.ts";
import { DnsNames, plainName, type SupplementaryEntries } from "../../discovery/dns-names.ts";
import { Fanout } from "../../discovery/fanout.ts";
import { isAdmitted, SwitchQueue } from "../../discovery/policy-switch-queue.ts";
import { CatalogReads, type ResolverAnswerLists } from "../../discovery/reads.ts";
import type { LoadReports } from "../../discovery/registrar/load-reports.ts";
import { reverseBlocks } from "../../lib/addresses.ts";
import type { PolicySource } from "../../policy/set/verdict.ts";
import { DiscoveryBytes } from "../../services/discovery/response-bytes.ts";
import type { NodeIdentity } from "../../services/service.ts";
import { AccessLog } from "../access-log.ts";
import { NodeLimits, type NodeLimitsOptions } from "../limits.ts";

/** The process in which a core runs. */
export interface CoreProcess extends Pick<NodeLimitsOptions, "audit" | "metrics" | "now"> {
  readonly settings: Settings;
  readonly version: string;
  /** The id of the node's process instance, which all threads of the node share. */
  readonly boot: string;
  /** Called when a watcher must be woken again. */
  readonly onAgain: () => void;
  /** Limits of the index of watches by name. A simulated node has small limits. */
  readonly nameBounds?: NameIndexBounds;
}

export interface ReadingCoreOptions<P extends PolicySource>
  extends CoreProcess,
    Pick<NodeLimitsOptions, "makeBuckets" | "tenantChecks" | "watches"> {
  readonly replica: Replica;
  readonly policies: P;
  /** The latest load reports for the node's own entries. */
  readonly loads: Pick<LoadReports, "of">;
  /** Time at which the node started, by the monotonic clock of this thread. */
  readonly startedMonoMs: number;
  /** Entries that a resolver serves in addition to its replica. */
  readonly beside?: { readonly lists: ResolverAnswerLists; readonly names: SupplementaryEntries } | undefined;
}

export interface ReadingCore<P extends PolicySource = PolicySource> extends Pick<ReadingCoreOptions<P>, "loads" | "policies" | "replica"> {
  readonly identity: NodeIdentity;
  /** Map from listener name to `host:port`, as in `identity`. The map is filled when the listeners are open. */
  readonly listeners: Record<string, string>;
  readonly fanout: Fanout;
  readonly dnsNames: DnsNames;
  readonly reads: CatalogReads;
  readonly switches: SwitchQueue;
  readonly bytes: DiscoveryBytes;
  readonly accessLog: AccessLog;
  readonly limits: NodeLimits;
  /**
   * Updates DNS names and watches after changes of the replica. On a node, the machine does this itself. `isTouched`: whether supplementary entries
   * changed.
   */
  readonly show: (isTouched?: boolean) => void;
}

/** Makes an empty replica, which shows only entries that the policy in force allows. */
export function openReplica(
  numbers: Pick<ReplicaOptions, "floor" | "generation" | "lastSeq"> & { readonly nodeId: string },
  { catalog, node }: Pick<Settings, "catalog" | "node">,
  policies: PolicySource,
): Replica {
  const replica = new Replica(new EntryIndex(), new Slab(), { ...numbers, ...catalog });
  replica.setAdmission((stored) => isAdmitted(policies.policy, stored, node.clusterId));
  return replica;
}

export function openReadingCore<P extends PolicySource>(options: ReadingCoreOptions<P>): ReadingCore<P> {
  const { settings, version, boot, metrics, audit, now, replica, policies, loads, startedMonoMs, beside } = options;
  const { clusterId, region, zone, roles } = settings.node;
  const ruleOf = (namespace: string) => policies.policy.source(namespace, settings.node).rule;
  const accessLog = new AccessLog(metrics, { sampleReads: settings.audit.sampleReads, wallMs: () => now().wallMs, audit, ruleOf });
  const limits = new NodeLimits({ ...options, lookup: replica.lookup });
  const listeners: Record<string, string> = {};
  const identity: NodeIdentity = {
    version,
    nodeId: replica.self.nodeId,
    clusterId,
    region,
    zone,
    roles,
    listeners,
    boot,
    startedMonoMs,
    get generation() {
      return replica.self.generation;
    },
  };
  const fanout = new Fanout(options.onAgain, options.nameBounds);
  const dnsNames = new DnsNames(replica, settings.dns.zones.map(plainName), reverseBlocks(settings.dns), beside?.names);
  const reads = new CatalogReads(replica, identity, { policies, onDenied: accessLog.onDenied, lists: beside?.lists });
  const switches = new SwitchQueue({ policies, replica, reads, fanout, clusterId });
  const bytes = new DiscoveryBytes(replica.slab, loads);
  const show = showing(replica, { fanout, dnsNames });
  return { replica, policies, loads, identity, listeners, fanout, dnsNames, reads, switches, bytes, accessLog, limits, show };
}

function showing(replica: Replica, { fanout, dnsNames }: Pick<ReadingCore, "dnsNames" | "fanout">): ReadingCore["show"] {
  let shown = { revision: 0, collectedRevision: 0 };
  // HOT: runs per message to a worker or to a resolver. A load report does not wake any watch.
  return (isTouched = false) => {
    const { revision, collectedRevision } = replica;
    const touched = replica.takeTouched();
    const isChanged = touched.size > 0 || revision !== shown.revision || collectedRevision !== shown.collectedRevision;
    if (isChanged || isTouched) dnsNames.refresh();
    if (!isChanged) return;
    shown = { revision, collectedRevision };
    fanout.changed(touched);
  };
}
