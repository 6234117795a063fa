/** The policy of a node: its store and audit log, the versions in them, the policy file, and the service over all of it. */

import { askedBounds } from "../catalog/entry/names.ts";
import { wantsPeers } from "../config/exposure.ts";
import type { Settings } from "../config/settings.ts";
import { catalogFacts, regionsOf } from "../discovery/policy-facts.ts";
import type { PolicyHead } from "../fabric/wire/messages.ts";
import { rethrowBroken } from "../lib/errors.ts";
import type { Log } from "../lib/log.io.ts";
import { TaskRunner } from "../policy/run-tasks.io.ts";
import type { Viewer } from "../policy/set/verdict.ts";
import { PolicyFile } from "../policy/versions/policy-file.ts";
import { PolicyStore } from "../policy/versions/policy-store.ts";
import { auditHandlers } from "../services/audit.ts";
import { type PolicyParts, policyService } from "../services/policy.ts";
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
  const { policies, identity, replica } = core;
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
    catalog: catalogFacts(replica, core.reads, viewersOf(settings, self.clusterId)),
    self,
    knownPlaces: () => knownPlaces(core, settings),
    audit: (event) => audit.record(event),
    onHead: (head) => onHead(head),
  });
  const tasks = new TaskRunner({
    store,
    now,
    pause: () => new Promise((resolve) => setImmediate(resolve)),
    audited: () => audit.durable(),
    shown: () => core.switchPolicy(),
    heard: () => core.policyHeard(),
  });
  await tasks.run(policyStore.restore());
  const applied = await appliedFile(new PolicyFile(policyStore), tasks, { settings, log, core });
  const regionOf = (clusterId: string): string => (clusterId === self.clusterId ? self.region : (regionsOf(replica).get(clusterId) ?? ""));
  return {
    service: policyService({
      policyStore,
      tasks,
      bounds: askedBounds(settings.limits),
      regionOf,
      ...fabricOf(core),
      audit: auditHandlers(audit),
    }),
    travelling: {
      get head() {
        return policies.place;
      },
      encoded: (number) => tasks.run(policyStore.encoded(number)),
      adopt: (head, bytes, via) => tasks.run(policyStore.adopt(head, bytes, via)),
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

/** Puts the policy file in force again when it may have been edited, and when this node is let in. */
interface AppliedFile {
  again(): Promise<void>;
  letIn(mayBeOthers: () => boolean): Promise<void>;
}

/** Puts the policy file in force as at a start, if there is one. */
async function appliedFile(policyFile: PolicyFile, tasks: TaskRunner, { settings, log, core }: NodePolicyOptions): Promise<AppliedFile> {
  const { file } = settings.policy;
  const wasLetIn = !wantsPeers(settings) || (await tasks.run(policyFile.wasReady())) || (await hadPeers(settings, core));
  if (!wasLetIn) policyFile.awaitCluster();
  if (file !== undefined) await tasks.run(policyFile.apply(file, readFileText(file)));
  tell(log, core);
  let mayBeOthers = () => true;
  const again = async (): Promise<void> => {
    if (file !== undefined && !(await tasks.run(policyFile.again(file, readFileText(file), mayBeOthers()))))
      log.warn({ file }, "policy file not read again before this node is ready: then what it says counts where the cluster has no policy");
    else tell(log, core);
  };
  const letIn = async (asked: () => boolean): Promise<void> => {
    mayBeOthers = asked;
    if (file !== undefined) await tasks.run(policyFile.letIn(file, readFileText(file), asked()));
  };
  return { again, letIn };
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

/** Who the settings say may look. */
function viewersOf({ tenants }: Settings, clusterId: string): readonly Viewer[] {
  const viewers = [...tenants.credentials, ...tenants.certificates].map(({ cluster, tenant }) => ({
    clusterId: cluster ?? clusterId,
    tenant: tenant ?? tenants.default ?? "",
  }));
  return [{ clusterId, tenant: "" }, ...viewers];
}

function knownPlaces(core: NodeCore, { tenants }: Settings): ReadonlySet<string> {
  const { clusterId, region } = core.identity;
  const known = new Set([clusterId, region]);
  for (const [cluster, itsRegion] of regionsOf(core.replica)) known.add(cluster).add(itsRegion);
  for (const { cluster } of [...tenants.credentials, ...tenants.certificates]) if (cluster !== undefined) known.add(cluster);
  return known;
}
