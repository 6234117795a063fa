/** The policy of a node: its store and audit log, the versions in them, the policy file, and the service over all of it. */

import { askedBounds } from "../catalog/entry/names.ts";
import { ANY } from "../catalog/query/filter.ts";
import { Cursor } from "../catalog/query/ordered.ts";
import { queryPage } from "../catalog/query/query.ts";
import { BODY, type CatalogRecord, KIND, keyParts } from "../catalog/record/record.ts";
import type { StoredRecord } from "../catalog/record/stored-record.ts";
import { wantsPeers } from "../config/exposure.ts";
import type { Settings } from "../config/settings.ts";
import type { PolicyHead } from "../fabric/wire/messages.ts";
import { rethrowBroken } from "../lib/errors.ts";
import type { Log } from "../lib/log.io.ts";
import type { CatalogFacts, HeldEntry } from "../policy/set/plan.ts";
import type { Viewer } from "../policy/set/verdict.ts";
import { auditHandlers } from "../services/audit.ts";
import { type PolicyParts, policyService } from "../services/policy.ts";
import { KeptPolicyFile, type PolicyFileParts } from "../services/policy-file.ts";
import { PolicyStore } from "../services/policy-store.ts";
import type { Service } from "../services/service.ts";
import { type AuditLog, openAuditLog } from "../store/audit/log.io.ts";
import { MemoryStore } from "../store/control/memory.ts";
import { openSqliteStore } from "../store/control/sqlite.io.ts";
import type { Store } from "../store/control/store.ts";
import { hadPeers } from "./fabric/open-fabric.ts";
import type { TravellingPolicy } from "./fabric/policy.ts";
import { checkWrites } from "./fabric/standing.ts";
import { readFileText } from "./policy-file.ts";
import type { NodeCore } from "./rooms.io.ts";
import { now } from "./rooms.io.ts";

export interface NodePolicy {
  readonly service: Service;
  /** For other nodes. */
  readonly travelling: TravellingPolicy;
  /** This node is ready; `mayBeOthers`: whether it serves alone, and has not reached those that it was to join. Asked again at each `reload`. */
  letIn(mayBeOthers: () => boolean): Promise<void>;
  /** Reads the policy file again, and opens the audit file again. */
  reload(): void;
  close(): Promise<void>;
}

export interface NodePolicyOptions {
  readonly settings: Settings;
  readonly log: Log;
  readonly core: NodeCore;
}

/** Opens store and audit log, puts the last policy in force, then what the policy file says anew. */
export async function openNodePolicy(options: NodePolicyOptions): Promise<NodePolicy> {
  await using opened = new AsyncDisposableStack();
  const policy = await openWith(options, opened);
  const parts = opened.move();
  return { ...policy, close: () => parts.disposeAsync() };
}

/** What the service asks of the fabric, which opens later. */
function fabricOf({ hooks, state }: NodeCore): Pick<PolicyParts, "secure" | "notTaken" | "reaches"> {
  return {
    secure: () => {
      checkWrites(state);
      return hooks.securePolicy();
    },
    notTaken: () => hooks.policyNotTaken(),
    reaches: (clusterId) => hooks.policyReaches(clusterId),
  };
}

/** As `openNodePolicy`; what is on `opened` is closed when this fails. */
async function openWith({ settings, log, core }: NodePolicyOptions, opened: AsyncDisposableStack): Promise<Omit<NodePolicy, "close">> {
  const { policies, identity } = core;
  const directory = settings.persistence.ephemeral ? undefined : settings.persistence.dataDir;
  const audit = await openAudit({ settings, log, core }, directory);
  const takesAsItIs = settings.persistence.newGeneration;
  const store = directory === undefined ? new MemoryStore() : await openOrRefuse(directory, takesAsItIs, log);
  opened.defer(() => store.close());
  // Before the store, as its last lines come from calls that end.
  opened.defer(() => audit.close());
  const self = { clusterId: identity.clusterId, region: identity.region };
  let onHead: (head: PolicyHead) => void = () => {};
  const policyStore = new PolicyStore({
    engine: policies,
    store,
    audit,
    catalog: catalogFacts(core, settings),
    self,
    knownPlaces: () => knownPlaces(core, settings),
    now,
    pause: () => new Promise((resolve) => setImmediate(resolve)),
    onChange: () => {
      onHead(policies.place);
      return core.switchPolicy();
    },
    heard: () => core.policyHeard(),
  });
  await policyStore.restore();
  const applied = await appliedFile({ policyStore, store, onChange: () => core.switchPolicy() }, { settings, log, core });
  await applied.first();
  const regionOf = (clusterId: string): string => (clusterId === self.clusterId ? self.region : (regions(core).get(clusterId) ?? ""));
  return {
    service: policyService({
      policyStore,
      bounds: askedBounds(settings.limits),
      regionOf,
      ...fabricOf(core),
      audit: auditHandlers(audit),
    }),
    travelling: {
      get head() {
        return policies.place;
      },
      encoded: (number) => policyStore.encoded(number),
      adoptForeign: (head, bytes, via) => policyStore.adoptForeign(head, bytes, via),
      onHead: (listener) => {
        onHead = listener;
      },
    },
    letIn: (mayBeOthers) => applied.letIn(mayBeOthers).catch((error: unknown) => notApplied(error, log)),
    reload: () => {
      audit.reopenFile();
      void applied.again().catch((error: unknown) => notApplied(error, log));
    },
  };
}

/** Puts the policy file in force: first at the start, again when it may have been edited, and when this node is let in. */
interface AppliedFile {
  first(): Promise<void>;
  again(): Promise<void>;
  letIn(mayBeOthers: () => boolean): Promise<void>;
}

async function appliedFile(parts: PolicyFileParts, { settings, log, core }: NodePolicyOptions): Promise<AppliedFile> {
  const { file } = settings.policy;
  const kept = new KeptPolicyFile(parts);
  const wasLetIn = !wantsPeers(settings) || (await kept.wasReady()) || (await hadPeers(settings, core));
  if (!wasLetIn) kept.awaitCluster();
  const first = async (): Promise<void> => {
    if (file !== undefined) await kept.apply(file, () => readFileText(file));
    tell(log, core);
  };
  let isAlone: (() => boolean) | undefined;
  const again = async (): Promise<void> => {
    if (isAlone?.() === false) kept.join();
    if (kept.isLetIn || isAlone !== undefined) return first();
    log.warn({ file }, "policy file not read again before this node is ready: then what it says counts where the cluster has no policy");
  };
  const letIn = async (mayBeOthers: () => boolean): Promise<void> => {
    isAlone = mayBeOthers;
    if (file !== undefined) await kept.letIn(file, () => readFileText(file), mayBeOthers());
  };
  return { first, again, letIn };
}

async function openAudit({ settings, log, core }: NodePolicyOptions, directory: string | undefined): Promise<AuditLog> {
  const audit = await openAuditLog({ ...settings.audit, directory, metrics: core.metrics, log: log.child("audit") });
  core.limits.audit = audit;
  core.accessLog.audit = audit;
  core.hooks.auditFault = () => audit.fault;
  return audit;
}

function notApplied(error: unknown, log: Log): void {
  rethrowBroken(error);
  log.error({ err: error }, "policy file not applied");
}

function tell(log: Log, { policies }: NodeCore): void {
  const { isEnabled, inForce, degraded } = policies.status;
  if (degraded !== "") log.error({ degraded }, "policy is degraded");
  else if (isEnabled) log.info({ number: inForce?.number, version: inForce?.version, ruleCount: inForce?.ruleCount }, "policy in force");
}

/** Without its store a node denies everything, and goes on: the policy it had cannot be known. */
async function openOrRefuse(directory: string, takesAsItIs: boolean, log: Log): Promise<Store> {
  try {
    return await openSqliteStore(directory, { takesAsItIs });
  } catch (error) {
    log.error({ err: error, directory, takesAsItIs }, "store cannot be opened, everything is denied");
    const away = new MemoryStore();
    await away.close();
    return away;
  }
}

/** The catalog as a dry run asks it, and who the settings say may look. */
function catalogFacts({ replica, reads, identity }: NodeCore, { tenants }: Settings): CatalogFacts {
  const { clusterId } = identity;
  const viewers: Viewer[] = [{ clusterId, tenant: "" }];
  for (const { cluster, tenant } of [...tenants.credentials, ...tenants.certificates])
    viewers.push({ clusterId: cluster ?? clusterId, tenant: tenant ?? tenants.default ?? "" });
  return {
    namespaces: () => replica.lookup.namespaces.list(),
    count: (namespace) => replica.lookup.namespaceCount(namespace),
    examples: (namespace, max) =>
      queryPage(
        replica.lookup,
        { ...ANY, namespace },
        { limit: max, afterKey: "", self: reads.node, allowed: () => true, explain: false },
      ).records.map(({ key }) => keyParts(key)),
    viewers: () => viewers,
    entries: () => heldEntries(replica),
  };
}

const ENTRIES_A_SLICE = 1000;

/** In slices, so that whoever reads may take turns with others; what changes meanwhile is read as it is then. */
function* heldEntries({ origins }: NodeCore["replica"]): Generator<HeldEntry> {
  for (const { log } of origins.values()) {
    let afterSeq = 0;
    for (let storedRecords: StoredRecord[] = []; ; storedRecords = []) {
      log.forEachSince(afterSeq, (stored, seq) => {
        afterSeq = seq;
        storedRecords.push(stored);
        return storedRecords.length < ENTRIES_A_SLICE;
      });
      for (const { body, namespace, scope, traits, key } of storedRecords) {
        const from = { clusterId: traits.clusterId, region: traits.region };
        if (body === BODY.ENTRY) yield { namespace, scope, from, key: () => keyParts(key) };
      }
      if (storedRecords.length < ENTRIES_A_SLICE) break;
    }
  }
}

/** Every cluster that has a node here, with its region. */
function regions({ replica }: NodeCore): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  const nodes = new Cursor(replica.lookup.ofKind(KIND.NODE));
  for (let node: CatalogRecord | undefined = nodes.next(); node !== undefined; node = nodes.next())
    found.set(node.traits.clusterId, node.traits.region);
  return found;
}

function knownPlaces(core: NodeCore, { tenants }: Settings): ReadonlySet<string> {
  const { clusterId, region } = core.identity;
  const known = new Set([clusterId, region]);
  for (const [cluster, itsRegion] of regions(core)) known.add(cluster).add(itsRegion);
  for (const { cluster } of [...tenants.credentials, ...tenants.certificates]) if (cluster !== undefined) known.add(cluster);
  return known;
}
