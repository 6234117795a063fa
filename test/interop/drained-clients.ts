/** Clients in other languages that stay registered, on three real nodes. Their first one is drained, then stopped. */
import { PeerDrainStep } from "../../gen/waymark/catalog/v1/peer_pb.js";
import { PeerService } from "../../gen/waymark/control/v1/peer_pb.js";
import { clientOf, EntryReader, peerOf } from "../fakes/drained-nodes.ts";
import { EtcdCluster } from "../fakes/etcd.ts";
import { leaderHome, oneLeader } from "../fakes/leader-nodes.ts";
import { CommandProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

/** Of each program. */
const ENTRIES = 5;

interface Told {
  readonly creates: number;
  readonly updates: number;
  readonly removes: number;
  readonly snapshots: number;
  readonly digests: number;
}

/** The last line of a program, about its own watch. */
interface Done {
  readonly event: "done";
  readonly told: Told;
  readonly held: number;
}

interface DrainedClients {
  /** The changes that a watch of another node received after its snapshot, sorted. */
  readonly changes: readonly string[];
  /** The nodes that have the entries in the end. */
  readonly nodeIds: readonly string[];
  /** The nodes on which each program registered, in order, by its place in the list of the program. */
  readonly registered: readonly (readonly number[])[];
  readonly done: readonly Done[];
}

const ordinals = ({ stdout }: CommandProcess, event: string): readonly number[] =>
  [...stdout.matchAll(new RegExp(`"event":"${event}","node":(\\d)`, "g"))].map(([, node]) => Number(node));

/** Runs these programs on the nodes n2, n1 and n3, and drains n2. */
export async function drainUnder(commands: readonly (readonly string[])[]): Promise<DrainedClients> {
  await using etcd = await EtcdCluster.start();
  using home = leaderHome("clients", etcd.endpoints, { dns: { max_ttl: "1s", min_ttl: "1s" } });
  await using n1 = await home.start("n1");
  await using n2 = await home.start("n2", [n1]);
  await using n3 = await home.start("n3", [n1]);
  await oneLeader([n1, n2, n3]);
  await using started = new AsyncDisposableStack();
  const admin = started.adopt(clientOf([n1]), (client) => Promise.resolve(client.close()));
  const reader = new EntryReader(admin, "interop");
  await until("the reader is current", () => reader.isCurrent);
  const addresses = [n2, n1, n3].map(({ grpc }) => grpc).join();
  const programs = commands.map(([program = "", ...args]) =>
    started.use(new CommandProcess([...args, "--stay", addresses], "", [], program)),
  );
  // Fails with the last words of a program that has ended.
  const events = (pattern: RegExp) => Promise.all(programs.map((program) => program.line(pattern)));
  await events(/"event":"followed","node":0/);
  await events(/"event":"renewed","node":0/);
  await until("the reader has all entries", () => reader.nodes.size === ENTRIES * programs.length);
  reader.changes.length = 0;

  await admin.call(PeerService.method.drain, { nodeId: "n2", reason: "new disks" });
  await until("the node is drained", async () => (await peerOf(admin, "n2")).drain?.step === PeerDrainStep.DRAINED);
  await events(/"event":"renewed","node":1/);
  await events(/"event":"followed","node":1/);
  await n2.stop();
  // Longer than the ttl: only renewals on the other node can have kept the entries.
  const counts = programs.map((program) => ordinals(program, "renewed").length);
  await until("each program has renewed its lease four times more", () =>
    programs.every((program, i) => ordinals(program, "renewed").length >= (counts[i] ?? 0) + 4),
  );
  for (const program of programs) program.kill("SIGTERM");
  const ended = await Promise.all(programs.map((program) => program.finished()));
  return {
    changes: reader.changes.toSorted(),
    nodeIds: [...new Set(reader.nodes.values())],
    registered: programs.map((program) => ordinals(program, "registered")),
    done: ended.map(({ exit, stdout, stderr }) => {
      if (exit !== 0) throw new Error(`a program ended with ${exit}: ${stderr}`);
      return JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "") as Done;
    }),
  };
}
