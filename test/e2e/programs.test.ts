/** Programs that lead scopes of their own, over real processes. */
import { expect, test } from "vitest";
import { connect, type LeaderTerm } from "../../src/client/index.ts";
import { startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const SCOPE = "custom/orders/cleaner";

/** A program that leads until `done` resolves. */
function programAt(servers: readonly string[], holderId: string) {
  const client = connect({ servers, findServers: false });
  const terms: LeaderTerm[] = [];
  const done = Promise.withResolvers<string>();
  const work = async (term: LeaderTerm) => {
    terms.push(term);
    const ended = new Promise<string>((resolve) => {
      term.signal.addEventListener("abort", () => resolve("ended"), { once: true });
    });
    return Promise.race([done.promise, ended]);
  };
  const result = client.lead(SCOPE, work, { holderId });
  return { client, terms, done, result, leads: () => terms.at(-1)?.isValid() === true };
}

test("on one node, programs lead in turn, operators see and depose them, and a drain ends a term immediately", async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  const ann = programAt([node.grpc], "ann");
  await until("ann leads", ann.leads);
  const bob = programAt([node.grpc], "bob");
  const listed = await node.run(["mesh", "leaders", "list"]);
  expect(listed.stdout).toMatch(/custom\/orders\/cleaner +ann/);
  expect((await node.run(["mesh", "leaders", "resign", SCOPE, "--reason", "test"])).exit).toBe(0);
  await until("bob leads", bob.leads);
  expect(bob.terms[0]?.fence.number).toBeGreaterThan(ann.terms[0]?.fence.number ?? 0);
  const stopped = node.stop();
  await until("the term of bob has ended", () => bob.terms[0]?.signal.aborted === true);
  const { stderr } = await stopped;
  console.log(stderr.split("\n").slice(-12).join("\n"));
  expect(stderr).not.toContain("not drained");
  expect(stderr).toMatch(/"holderId":"bob".*"leader stepped down"/);
});
