/**
 * The example programs of docs/examples/leader, in TypeScript and Go, on one scope: their nodes share etcd, and the database of both rejects older fences.
 *
 * @module-tag path
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { mustRun, ROOT } from "../../scripts/run.ts";
import { compareFences, type FenceToken, parseFence } from "../../src/client/index.ts";
import { ClusterHome } from "../fakes/cluster-home.ts";
import { EtcdCluster, isEtcdThere } from "../fakes/etcd.ts";
import { EXAMPLE_HOOK } from "../fakes/example-hook.ts";
import { CommandProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";
import { isGoThere } from "./needs.ts";

const GO = join(ROOT, "test/interop/go");
const GO_PROGRAM = join(ROOT, ".cache/interop-go-leader");
const EXAMPLES = join(ROOT, "docs/examples/leader/typescript");
const SCOPE = "custom/orders/cleaner";
const areThere = isEtcdThere() && (await isGoThere());

async function buildGo(): Promise<string> {
  await mustRun("buf", ["generate", "--template", "buf.gen.yaml"], { cwd: GO });
  await mustRun("go", ["vet", "./leader"], { cwd: GO });
  await mustRun("go", ["build", "-o", GO_PROGRAM, "./leader"], { cwd: GO });
  return GO_PROGRAM;
}

/** An example in TypeScript, for which `waymark` is the client of these sources. */
function example(name: string, args: readonly string[]): CommandProcess {
  return new CommandProcess(["--import", EXAMPLE_HOOK, join(EXAMPLES, name), ...args], "", [], process.execPath);
}

/** The fences after a word at the start of a line. */
function fencesAfter({ stdout }: CommandProcess, word: string) {
  const lines = stdout.split("\n").filter((line) => line.startsWith(`${word} `));
  return lines.map((line) => {
    const text = line.slice(word.length + 1);
    const parsed = parseFence(text.includes(";") ? text : `${SCOPE};${text}`);
    if (parsed === undefined) throw new Error(`no fence: ${line}`);
    return parsed.fence;
  });
}

test.skipIf(!areThere)(
  "a program follows when the leader's node is killed or the leader is paused, and no older fence is accepted (needs etcd and Go)",
  async () => {
    const program = await buildGo();
    const folder = mkdtempSync(join(tmpdir(), "waymark-leaders-"));
    await using etcd = await EtcdCluster.start();
    using home = new ClusterHome({
      node: { cluster_id: "leaders" },
      leadership: { lease: "1500ms" },
      store: { kind: "etcd", endpoints: [...etcd.endpoints], timeout: "500ms" },
    });
    const first = await home.start("n1");
    await using second = await home.start("n2", [first]);
    await using orders = example("orders.ts", [join(folder, "orders.db"), "0"]);
    const url = `http://127.0.0.1:${(await orders.line(/^listening on/)).split(" ").at(-1)}`;
    const leadsAndWrites = (name: string, leader: CommandProcess, term: number) =>
      until(`the program in ${name} leads for term ${term}, and its write is accepted`, () => {
        const led = fencesAfter(leader, "leads")[term - 1];
        return led !== undefined && fencesAfter(orders, "accepted").some((fence) => compareFences(fence, led) === 0);
      });

    await using typescript = example("cleaner.ts", ["typescript", url, first.grpc, second.grpc]);
    await leadsAndWrites("TypeScript", typescript, 1);
    await using go = new CommandProcess(["go", url, second.grpc], "", [], program);
    await first.stop("SIGKILL");
    await leadsAndWrites("Go", go, 1);

    const post = async (fence: string) => (await fetch(url, { method: "POST", headers: { "waymark-fence": fence } })).status;
    expect([await post("custom/orders/other;0.9999999999.1"), await post("none")]).toEqual([403, 400]);

    go.kill("SIGSTOP");
    await leadsAndWrites("TypeScript", typescript, 2);
    const older = [fencesAfter(typescript, "leads")[0], fencesAfter(go, "leads")[0]];
    go.kill("SIGCONT");
    for (const fence of older) expect(await post(`${SCOPE};${fence?.failoverVersion}.${fence?.storeEpoch}.${fence?.number}`)).toBe(409);

    typescript.kill("SIGTERM");
    expect((await typescript.finished()).exit).toBe(0);
    await leadsAndWrites("Go", go, 2);
    go.kill("SIGTERM");
    expect((await go.finished()).exit).toBe(0);
    const accepted = fencesAfter(orders, "accepted");
    expect(accepted).toEqual(accepted.toSorted(compareFences));
    // A program that loses its lease on a busy machine leads once more, so there can be more than four terms.
    const numbersOf = (fences: readonly FenceToken[]) => new Set(fences.map(({ number }) => number));
    const led = numbersOf([typescript, go].flatMap((leader) => fencesAfter(leader, "leads")));
    expect(numbersOf(accepted).isSubsetOf(led)).toBe(true);
    expect(led.size).toBeGreaterThanOrEqual(4);
    await first[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  },
);
