/** The operator's view on the command line. */
import { expect, onTestFinished, test } from "vitest";
import { DiscoveryDelta_Action } from "../../gen/waymark/catalog/v1/delta_pb.js";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { waymark } from "../fakes/cli-world.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";

async function startFake(): Promise<FakeDiscovery> {
  const fake = new FakeDiscovery();
  await fake.start();
  onTestFinished(() => fake.stop());
  return fake;
}

test("--as-operator adds the column HIDDEN BY to query, resolve and watch", async () => {
  const fake = await startFake();
  for (const namespace of ["svc.market", "svc.open"])
    await waymark(["register", "--namespace", namespace, "--name", `web-${namespace}`, "--instance", "1", "--server", fake.address]);
  fake.hiddenBy = { "svc.market": "svc.*" };
  const [hidden, open] = [...fake.entries.values()].map((entry) => ({
    namespace: entry.key?.namespace ?? "",
    payload: { case: "entry" as const, value: entry },
  }));
  if (hidden === undefined || open === undefined) throw new Error("nothing is registered");
  const deltas = [hidden, open].map((delta, i) => ({ ...delta, action: DiscoveryDelta_Action.CREATE, deltaId: `n/1/${i}` }));
  fake.watchScript = [[{ deltas, hiddenBy: fake.hiddenBy, snapshot: Snapshot.BEGIN }, { snapshot: Snapshot.END }]];
  const ends = ["--as-operator", "--server", fake.address];
  let shown = "";
  for (const argv of [["query"], ["resolve", "web-svc.market", "--namespace", "svc.market"], ["watch", "--until-synced"]])
    shown += (await waymark(["discovery", ...argv, ...ends])).stdout;
  await expect(shown).toMatchFileSnapshot("../golden/cli/as-operator.table.txt");
});
