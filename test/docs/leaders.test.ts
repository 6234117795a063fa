/** The guide of leaders: its SQL rejects old fences, and its user of etcd has all rights that a node with its sample settings needs. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, expect, test } from "vitest";
import { EtcdCluster, isEtcdThere } from "../fakes/etcd.ts";
import { startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const GUIDE = readFileSync("docs/guides/leaders.md", "utf8");
const base64 = (text: string) => Buffer.from(text).toString("base64");

test("the SQL of the guide accepts a fence that is not smaller than all earlier ones of its scope, and no other", () => {
  const [upsert = "", table = ""] = [...GUIDE.matchAll(/^```sql\n([^]*?)^```$/gm)].map(([, sql]) => sql);
  using database = new DatabaseSync(":memory:");
  database.exec(table);
  const statement = database.prepare(upsert);
  const accepts = (scope: string, fence: string) => {
    const [failoverVersion = 0, storeEpoch = 0, number = 0] = fence.split(".").map(Number);
    return statement.all({ scope, failover_version: failoverVersion, store_epoch: storeEpoch, number }).length === 1;
  };
  const fences = ["0.100.7", "0.100.7", "0.100.12", "0.100.9", "0.101.2", "0.100.13", "1.1.1", "0.101.3"];
  expect(fences.map((fence) => accepts("custom/orders/cleaner", fence))).toEqual([true, true, true, false, true, false, true, false]);
  expect(accepts("custom/orders/other", "0.100.1")).toBe(true);
});

describe.runIf(isEtcdThere())("with etcd", () => {
  test("a node with the sample settings leads as the user that the commands of the guide create", async () => {
    await using etcd = await EtcdCluster.start({ flags: ["--bcrypt-cost=4"] });
    await createUser(etcd);
    const folder = mkdtempSync(join(tmpdir(), "waymark-leaders-"));
    try {
      writeFileSync(join(folder, "password"), "secret\n", { mode: 0o600 });
      const file = join(folder, "node.toml");
      writeFileSync(file, here(readFileSync("docs/examples/settings/fleet.toml", "utf8"), etcd, folder));
      await using node = await startNodeProcess(["--config", file, "--cluster-id", "prod-eu-1", "--node-id", "a", "--ephemeral"]);
      const status = async () => {
        const { stdout, stderr } = await node.run(["mesh", "leaders", "status"]);
        return stdout + stderr;
      };
      await until("a leader", async () => ((await status()).includes("global-control  a") ? [] : [await status()]));
      expect(await status()).toMatch(/\ncontrol store: etcd, epoch \d+\n$/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

/** The sample with an etcd of this machine, without TLS. */
function here(sample: string, etcd: EtcdCluster, folder: string): string {
  return sample
    .replace(/^endpoints = .*$/m, `endpoints = ${JSON.stringify(etcd.endpoints)}`)
    .replace(/^ca_file = .*\n/m, "")
    .replace("/etc/waymark/store/", `${folder}/`);
}

/** Does in etcd what the commands of the guide do. */
async function createUser(etcd: EtcdCluster): Promise<void> {
  const [, role = "", prefix = ""] = /etcdctl role grant-permission (\S+) --prefix=true readwrite (\S+)\/$/m.exec(GUIDE) ?? [];
  const [, user = ""] = /etcdctl user add (\S+) --interactive=false/.exec(GUIDE) ?? [];
  const granted = /etcdctl user grant-role (?!root)(\S+ \S+)/.exec(GUIDE)?.[1];
  expect([granted, GUIDE.includes(`etcdctl role add ${role}\n`)]).toEqual([`${user} ${role}`, true]);
  await etcd.post("auth/role/add", { name: "root" });
  await etcd.post("auth/user/add", { name: "root", password: "root" });
  await etcd.post("auth/user/grant", { user: "root", role: "root" });
  await etcd.post("auth/role/add", { name: role });
  const perm = { permType: "READWRITE", key: base64(`${prefix}/`), range_end: base64(`${prefix}0`) };
  await etcd.post("auth/role/grant", { name: role, perm });
  await etcd.post("auth/user/add", { name: user, password: "secret" });
  await etcd.post("auth/user/grant", { user, role });
  await etcd.post("auth/enable", {});
}
