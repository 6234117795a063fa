/** Programs that lead scopes of their own, over real processes. */
import { expect, test } from "vitest";
import { connect, type LeaderTerm, RequestError } from "../../src/client/index.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
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
  const abort = new AbortController();
  const result = client.lead(SCOPE, work, { holderId, signal: abort.signal }).finally(() => client.close());
  return { terms, done, abort, result, leads: () => terms.at(-1)?.isValid() === true };
}

test("on one node, programs lead in turn, operators see them, and a drain ends a term immediately", async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  const ann = programAt([node.grpc], "ann");
  await until("ann leads", ann.leads);
  const bob = programAt([node.grpc], "bob");
  expect((await node.run(["mesh", "leaders", "list"])).stdout).toMatch(/custom\/orders\/cleaner +ann/);
  ann.done.resolve("done");
  expect(await ann.result).toBe("done");
  await until("bob leads", bob.leads);
  expect(bob.terms[0]?.fence.number).toBeGreaterThan(ann.terms[0]?.fence.number ?? 0);
  const stopped = node.stop();
  await until("the term of bob has ended", () => bob.terms[0]?.signal.aborted === true);
  const { stderr } = await stopped;
  expect(stderr).not.toContain("not drained");
  expect(stderr).toMatch(/"holderId":"bob".*"leader stepped down"/);
  bob.abort.abort(new Error("stop"));
  await expect(bob.result).rejects.toThrow("stop");
});

test("campaigns are rejected for the scopes of nodes and reserved namespaces, and on a node with read workers", async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  await using workers = await startNodeProcess(["--ephemeral", "--workers", "1"]);
  const refusal = async ({ grpc }: NodeProcess, scope: string) => {
    const client = connect({ servers: [grpc], findServers: false });
    try {
      return await client.lead(scope, () => "leads");
    } catch (error) {
      return error instanceof RequestError ? `${error.facts.reason}: ${error.message}` : error;
    } finally {
      client.close();
    }
  };
  expect(await refusal(node, "custom/orders/cleaner")).toBe("leads");
  expect(await refusal(node, "global-control")).toMatch(/^INVALID_ARGUMENT: .*is led by nodes/);
  expect(await refusal(node, "custom/discovery.nodes/x")).toMatch(/^INVALID_ARGUMENT: .*reserved for the control plane/);
  expect(await refusal(workers, "custom/orders/cleaner")).toMatch(/^UNIMPLEMENTED: .*set node.workers = 0/);
});
