/** The policy of a node: its store and audit log, its versions, the policy file, and the service that exposes them. */

import type { Scope } from "../catalog/entry/scope.ts";
import { hasTls } from "../config/exposure.ts";
import type { Settings } from "../config/settings.ts";
import { catalogFactsForPlan, regionsOf } from "../discovery/policy-facts.ts";
import { rethrowInvariant } from "../lib/errors.ts";
import type { Log } from "../lib/log.io.ts";
import { now } from "../lib/stall-aware-time.io.ts";
import { type TaskPorts, TaskRunner } from "../policy/run-tasks.io.ts";
import type { CatalogFacts } from "../policy/set/plan.ts";
import type { Viewer } from "../policy/set/verdict.ts";
import { PolicyFile } from "../policy/versions/policy-file.ts";
import { PolicyStore } from "../policy/versions/policy-store.ts";
import { auditHandlers } from "../services/audit.ts";
import { policyService } from "../services/policy.ts";
import type { ServiceDefinition } from "../services/service.ts";
import type { AuditLog } from "../store/audit/log.io.ts";
import { openMemoryStore, openSqliteStore } from "../store/control/sqlite.io.ts";
import type { ControlStore } from "../store/control/store.ts";
import { channelsOf } from "../summary/building/outlets.ts";
import type { NodeComponent } from "./components.io.ts";
import { SharedPolicy } from "./control/shared-policy.io.ts";
import { hasAdopted } from "./core/open-fabric.ts";
import { CHANNEL_OF } from "./core/rooms.ts";
import type { CoreDriver } from "./core-driver.io.ts";
import type { NodeNotice } from "./core-io.ts";
import { writeMark } from "./fabric/members-file.io.ts";
import { readFileText } from "./policy-file.io.ts";
import type { NodeCore } from "./rooms.io.ts";
import { isOthersInSnapshot } from "./snapshot-file.io.ts";

export interface NodePolicy {
  readonly service: ServiceDefinition;
  /** Applies the policy file if the cluster has no policy. Must be called when this node becomes ready. */
  letIn(): Promise<void>;
  /** Reads the policy file again at a reload, and compares the policy with the store that the nodes share while the node runs. */
  readonly component: NodeComponent;
}

export interface NodePolicyOptions {
  readonly settings: Settings;
  readonly log: Log;
  readonly core: NodeCore;
  readonly audit: AuditLog;
  readonly store: ControlStore;
  /** The control store that this node shares with others. Undefined if it has none. */
  readonly sharedStore?: ControlStore | undefined;
  /** Whether other nodes may have a policy that this node lacks, because it is not ready yet or cannot reach any of them. */
  readonly mayBeOthers: () => boolean;
  /** Calls `wake` several times a second until the returned function is called. */
  readonly tick: (wake: () => void) => () => void;
}

/** Returns the facts from the catalog and the settings that a dry run reads. */
function factsOf({ replica, reads, identity }: NodeCore, settings: Settings): CatalogFacts {
  const exportScope = CHANNEL_OF[settings.summary.exportScope];
  const channels = (listed: readonly Scope[]) => channelsOf(listed, { ...settings.summary, exportScope });
  return catalogFactsForPlan(replica, reads, { viewers: viewersOf(settings, identity.clusterId), channels });
}

/** Puts the last stored policy in force, and then the policy file if it has changed. */
export async function openNodePolicy(options: NodePolicyOptions): Promise<NodePolicy> {
  const { settings, log, core, audit, sharedStore, tick } = options;
  const { policies, identity, replica, machine, driver, guard } = core;
  const self = { clusterId: identity.clusterId, region: identity.region };
  const wakes = new Set<() => void>();
  const policyStore = new PolicyStore({
    engine: policies,
    catalog: factsOf(core, settings),
    self,
    knownPlaces: () => knownPlaces(core, settings),
    audit: (event) => audit.record(event),
    onHead: (head) => {
      driver.input({ kind: "policy", head });
      shared?.wake();
      for (const wake of wakes) wake();
    },
  });
  const tasks = taskRunner(options, (bytes) => shared?.publish(bytes));
  const shared = sharedStore && new SharedPolicy({ store: sharedStore, clusterId: self.clusterId, policyStore, tasks, log });
  await tasks.run(policyStore.restore());
  if (!guard.hadPeers && (await holdsDataOfOthers(settings, core))) guard.shown();
  driver.follow((notice) => carryOut(notice, { tasks, policyStore, driver, log }));
  const applied = await appliedFile(new PolicyFile(policyStore), tasks, options);
  const regionOf = (clusterId: string): string => (clusterId === self.clusterId ? self.region : (regionsOf(replica).get(clusterId) ?? ""));
  driver.follow((notice) => {
    if (notice.kind === "memberChanged" && guard.note(notice.update.nodeId)) void writeMark(settings, log);
  });
  return {
    service: policyService({
      policyStore,
      tasks,
      regionOf,
      secure: () => {
        machine.writeEligibility.checkWrites();
        return guard.secure(machine.fabric);
      },
      notTaken: () => machine.policyNotTaken,
      reaches: (clusterId) => machine.isPolicyTaken(clusterId),
      audit: auditHandlers(audit),
      servedBy: identity.nodeId,
      isTls: hasTls(settings),
      onChange: (wake) => {
        const untick = tick(wake);
        wakes.add(wake);
        return () => {
          wakes.delete(wake);
          untick();
        };
      },
    }),
    letIn: () => applied.letIn().catch((error: unknown) => notApplied(error, log)),
    component: {
      start: () => void shared?.run(),
      reload: () => void applied.again().catch((error: unknown) => notApplied(error, log)),
      stop: () => shared?.close(),
    },
  };
}

function taskRunner({ store, audit, core }: NodePolicyOptions, publish: TaskPorts["publish"]): TaskRunner {
  return new TaskRunner({
    store,
    publish,
    now,
    pause: () => new Promise((resolve) => setImmediate(resolve)),
    audited: () => audit.durable(),
    shown: () => core.switchPolicy(),
    heard: () => core.policyDelivered(),
  });
}

/** Whether the data directory contains data that only another node can have sent. Must be called after the stored policies are restored. */
async function holdsDataOfOthers({ persistence }: Settings, { identity: { nodeId }, policies }: NodeCore): Promise<boolean> {
  return !persistence.ephemeral && (hasAdopted(policies, nodeId) || (await isOthersInSnapshot(persistence.dataDir, nodeId)));
}

/** Carries out the machine's orders for the policy store. */
function carryOut(notice: NodeNotice, parts: { tasks: TaskRunner; policyStore: PolicyStore; driver: CoreDriver; log: Log }): void {
  const { tasks, policyStore, driver, log } = parts;
  if (notice.kind === "readPolicy") {
    const { number } = notice;
    const read = tasks.run(policyStore.encoded(number)).catch(() => undefined);
    void read.then((bytes) => driver.input({ kind: "policyRead", number, bytes }));
  }
  if (notice.kind === "adoptPolicy") {
    const { head, bytes, via } = notice;
    const adopted = tasks.run(policyStore.adopt(head, bytes, via)).catch((error: unknown) => {
      rethrowInvariant(error);
      log.error({ err: error, number: head.number, nodeId: head.nodeId }, "policy version from another node not stored");
      return { notKept: error instanceof Error ? error.message : String(error) };
    });
    void adopted.then((outcome) => driver.input({ kind: "policyAdopted", head, via, outcome }));
  }
}

/**
 * Applies the policy file, if there is one, at startup. The returned functions apply it again: `again` after the file may have been edited, and
 * `letIn` when this node is ready.
 */
async function appliedFile(policyFile: PolicyFile, tasks: TaskRunner, options: NodePolicyOptions) {
  const { settings, log, core, mayBeOthers } = options;
  const { file } = settings.policy;
  if (core.guard.isToMeetOthers) await tasks.run(policyFile.begin());
  if (file !== undefined) await tasks.run(policyFile.apply(file, await readFileText(file)));
  logPolicy(log, core);
  const again = async (): Promise<void> => {
    if (file !== undefined && !(await tasks.run(policyFile.again(file, await readFileText(file), mayBeOthers()))))
      log.warn(
        { file },
        "policy file not reloaded: this node is not ready yet; once it is ready, the file will be applied if the cluster has no policy",
      );
    else logPolicy(log, core);
  };
  const letIn = async (): Promise<void> => {
    if (file !== undefined) await tasks.run(policyFile.letIn(file, await readFileText(file), mayBeOthers()));
  };
  return { again, letIn };
}

function notApplied(error: unknown, log: Log): void {
  rethrowInvariant(error);
  log.error({ err: error }, "policy file not applied");
}

function logPolicy(log: Log, { policies }: NodeCore): void {
  const { isEnabled, inForce, degraded } = policies.status;
  if (degraded !== "") log.error({ degraded }, "policy is degraded");
  else if (isEnabled) log.info({ number: inForce?.number, version: inForce?.version, ruleCount: inForce?.ruleCount }, "policy in force");
}

/** Opens the policy store. A node whose store cannot be opened still runs, but denies all requests, because it cannot know its policy. */
export async function openPolicyStore({ persistence }: Settings, log: Log): Promise<ControlStore> {
  const { dataDir: directory, ephemeral, newGeneration: takesAsItIs } = persistence;
  if (ephemeral) return openMemoryStore();
  try {
    return await openSqliteStore(directory, { takesAsItIs });
  } catch (error) {
    log.error({ err: error, directory, takesAsItIs }, "policy store not opened: all requests are denied");
    const closed = openMemoryStore();
    await closed.close();
    return closed;
  }
}

/** Returns the viewers that the settings name. */
function viewersOf({ tenants }: Settings, clusterId: string): readonly Viewer[] {
  const viewers = [...tenants.credentials, ...tenants.certificates].map(({ cluster, tenant }) => ({
    clusterId: cluster ?? clusterId,
    tenant: tenant ?? tenants.default ?? "",
  }));
  return [{ clusterId, tenant: "" }, ...viewers];
}

/** Returns the clusters and regions that a rule may name: the ones in the catalog and the ones in the settings. */
function knownPlaces(core: NodeCore, { tenants, fabric, summary }: Settings): ReadonlySet<string> {
  const { clusterId, region } = core.identity;
  const known = new Set([clusterId, region]);
  for (const [cluster, itsRegion] of regionsOf(core.replica)) known.add(cluster).add(itsRegion);
  for (const place of [...fabric.borders, ...summary.keys]) known.add(place.clusterId).add(place.region);
  for (const { cluster } of [...tenants.credentials, ...tenants.certificates]) if (cluster !== undefined) known.add(cluster);
  return known;
}
