/** Which nodes read their policy file again before they are ready: those that were members before, and those that have nobody to wait for. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { openLog } from "../../src/lib/log.io.ts";
import { FabricGuard } from "../../src/node/core/open-fabric.ts";
import { isMarked } from "../../src/node/fabric/members-file.io.ts";
import { type NodePolicy, openNodePolicy, openPolicyStore } from "../../src/node/policy.io.ts";
import { PolicyEngine } from "../../src/policy/versions/engine.ts";
import type { ControlStore } from "../../src/store/control/store.ts";
import { startDiscovery } from "../fakes/discovery-service.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-node-policy-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

test.each<{ what: string; seeds: readonly string[]; wasReady: boolean; hadPeers: boolean; isRead: boolean }>([
  { what: "that stands alone", seeds: [], wasReady: false, hadPeers: false, isRead: true },
  { what: "that is to join others for the first time", seeds: ["192.0.2.1:1"], wasReady: false, hadPeers: false, isRead: false },
  { what: "that was ready before", seeds: ["192.0.2.1:1"], wasReady: true, hadPeers: false, isRead: true },
  {
    what: "whose directory is of a member of the first version, which did not note that it was ready",
    seeds: ["192.0.2.1:1"],
    wasReady: false,
    hadPeers: true,
    isRead: true,
  },
])(
  "an edit of the policy file that is told before a node is ready is read at once, as a version of its own: $isRead of one $what",
  async (row) => {
    const dataDir = mkdtempSync(join(HOME, "data-"));
    const file = join(dataDir, "policy.yaml");
    const put = (version: string) => writeFileSync(file, `version: ${version}\ndefault_allow: true\n`);
    const inside = await startDiscovery();
    const warned: string[] = [];
    const log = openLog({ level: "warn", scopes: new Map(), format: "json", write: (line) => void warned.push(line) });
    const start = async (): Promise<{ readonly policy: NodePolicy; readonly policies: PolicyEngine; readonly store: ControlStore }> => {
      const { core, settings, audit } = inside;
      const policies = new PolicyEngine({ ...core.identity, maxVersions: 3, maxBytes: 1e6 });
      const persistence = { ...settings.persistence, ephemeral: false, dataDir };
      const changed = { ...settings, persistence, fabric: { ...settings.fabric, seeds: row.seeds }, policy: { ...settings.policy, file } };
      const guard = new FabricGuard({ settings: changed, policies, nodeId: core.identity.nodeId, isMarked: isMarked(changed) });
      const store = await openPolicyStore(changed, log.child("policy"));
      const parts = { settings: changed, log: log.child("policy"), core: { ...core, policies, guard }, audit, store };
      return { policy: await openNodePolicy({ ...parts, mayBeOthers: () => !isReady, tick: () => () => {} }), policies, store };
    };
    let isReady = false;
    put("first");
    const before = await start();
    isReady = row.wasReady;
    if (row.wasReady) await before.policy.letIn();
    isReady = false;
    await before.store.close();
    if (row.hadPeers) writeFileSync(join(dataDir, "had-peers"), "");
    const { policy, policies, store } = await start();
    put("edited");
    policy.component.reload?.();
    await until("it is read, or told that it is not", () => policies.inForce?.version === "edited" || warned.length > 0);
    expect([policies.inForce?.version, policies.newestNumber, warned.filter((line) => line.includes("not reloaded")).length]).toEqual(
      row.isRead ? ["edited", 2, 0] : ["first", 1, 1],
    );
    await store.close();
    await inside.stop();
  },
);
