/** What a real node promised stays true: kill -9, stop, damaged and foreign data directories. Disks that fail are in disk-faults.test.ts. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, expect, test } from "vitest";
import { type Entry, EntryKeySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type Client, RequestError } from "../../src/client/index.ts";
import { CommandProcess, type Finished, startNodeProcess, withClient } from "../fakes/node-process.ts";
import { allEntries, keyLine, WriteStorm } from "../fakes/write-storm.ts";
import { directoryBytes } from "../store/journal-fixture.ts";

const { register, unregister, catalogWatch, renew } = DiscoveryService.method;

const folders: string[] = [];
function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "waymark-durability-"));
  folders.push(path);
  return path;
}
afterAll(() => {
  for (const path of folders) rmSync(path, { recursive: true, force: true });
});

const web = (instanceId: string, tags: readonly string[] = []) => ({
  key: { namespace: "svc.market", name: "web", instanceId },
  targets: [{ host: "10.0.0.1", port: 80 }],
  tags: [...tags],
});
const instances = (entries: readonly Entry[]): string[] => entries.map(({ key }) => key?.instanceId ?? "").toSorted();

test("kill -9 twice during 50,000 registrations: all that was acknowledged comes back, and nothing that was never sent", {
  tags: ["night"],
}, async () => {
  const data = folder();
  const storm = new WriteStorm({ writers: 6, batch: 50, total: 50_000 });
  for (const killAt of [12_000, 31_000, Number.POSITIVE_INFINITY]) {
    await using node = await startNodeProcess(["--data-dir", data]);
    await withClient(node, async (client) => {
      // Also what came back from the crash before this one, before anything new is written.
      storm.compare(await allEntries(client, "storm"));
      await storm.run(client, { killAt, kill: () => node.command.kill("SIGKILL") });
    });
    if (Number.isFinite(killAt)) expect((await node.command.finished()).exit).not.toBe(0);
    else await withClient(node, async (client) => storm.compare(await allEntries(client, "storm")));
  }
  expect(storm.ackedCount).toBeGreaterThanOrEqual(50_000);
  expect(storm.unknownCount).toBeGreaterThan(0);
});

test("after kill -9 a lease has its ttl once more, a static lease stays, and what was unregistered stays gone", {
  tags: ["night"],
}, async () => {
  const data = folder();
  const ttlMs = 6000;
  const leases = await (async () => {
    await using node = await startNodeProcess(["--data-dir", data]);
    return await withClient(node, async (client) => {
      await client.call(register, { entries: [web("static")], staticLease: true });
      const gone = await client.call(register, { entries: [web("gone-1"), web("gone-2")], ttl: durationFromMs(60_000) });
      await client.call(unregister, { leaseId: gone.leaseId });
      await client.call(register, { entries: [web("gone-3"), web("kept")], ttl: durationFromMs(60_000) });
      await client.call(unregister, { keys: [create(EntryKeySchema, { namespace: "svc.market", name: "web", instanceId: "gone-3" })] });
      // Last: a slow disk under the calls before would take of its time.
      const leased = await client.call(register, { entries: [web("leased")], ttl: durationFromMs(ttlMs) });
      node.command.kill("SIGKILL");
      await node.command.finished();
      return { leased: leased.leaseId, gone: gone.leaseId };
    });
  })();
  await new Promise((resolve) => setTimeout(resolve, ttlMs)); // The lease's time passes while nobody is there to see it.
  await using node = await startNodeProcess(["--data-dir", data]);
  await withClient(node, async (client) => {
    expect(instances(await allEntries(client, "svc"))).toEqual(["kept", "leased", "static"]);
    // Its time counts from some moment after this one.
    const renewedMonoMs = performance.now();
    const renewed = await client.call(renew, { leaseIds: [leases.leased, leases.gone] });
    expect(renewed.expiredLeaseIds).toEqual([leases.gone]);
    const watch = client.stream(catalogWatch, { namespace: "svc.market" });
    let removedMonoMs = 0;
    for await (const { deltas } of watch) {
      if (!deltas.some(({ payload }) => payload.case === "removed" && payload.value.instanceId === "leased")) continue;
      removedMonoMs = performance.now();
      break;
    }
    expect(removedMonoMs - renewedMonoMs).toBeGreaterThan(ttlMs - 10);
    expect(instances(await allEntries(client, "svc"))).toEqual(["kept", "static"]);
  });
});

/** Folds a watch until `isDone`; what the reader then holds, by key, and the snapshots it was given. */
async function fold(
  client: Client,
  request: { readonly cursor?: string; readonly held?: ReadonlyMap<string, string> },
  isDone: (message: {
    readonly revision: bigint;
    readonly portableCursor: string;
    readonly bookmark: boolean;
    readonly snapshot: Snapshot;
  }) => boolean,
) {
  const held = new Map(request.held);
  let snapshots = 0;
  for await (const message of client.stream(catalogWatch, {
    namespacePrefix: "svc",
    bookmarkInterval: durationFromMs(1000),
    cursor: request.cursor ?? "",
  })) {
    if (message.snapshot === Snapshot.BEGIN) {
      snapshots++;
      held.clear();
    }
    for (const { payload } of message.deltas) {
      if (payload.case === "entry") held.set(keyLine(payload.value.key), payload.value.tags.join());
      else if (payload.case === "removed") held.delete(keyLine(payload.value));
    }
    if (isDone(message)) return { held, snapshots, portableCursor: message.portableCursor };
  }
  throw new Error("the watch ended");
}

test("a portable cursor from before kill -9 resumes without a snapshot and misses nothing", async () => {
  const data = folder();
  const atEnd = await (async () => {
    await using node = await startNodeProcess(["--data-dir", data]);
    return await withClient(node, async (client) => {
      await client.call(register, { entries: Array.from({ length: 300 }, (_, i) => web(`w${i}`, ["first"])), staticLease: true });
      const seen = await fold(client, {}, ({ snapshot }) => snapshot === Snapshot.END);
      // Neither of these reached the reader.
      await client.call(register, { entries: Array.from({ length: 50 }, (_, i) => web(`w${i}`, ["second"])), staticLease: true });
      await client.call(unregister, {
        keys: [100, 101].map((i) => create(EntryKeySchema, { namespace: "svc.market", name: "web", instanceId: `w${i}` })),
      });
      node.command.kill("SIGKILL");
      await node.command.finished();
      return seen;
    });
  })();
  expect(atEnd).toMatchObject({ snapshots: 1, portableCursor: expect.stringMatching(/^p1\./) as string });
  expect(atEnd.held.size).toBe(300);
  await using node = await startNodeProcess(["--data-dir", data]);
  await withClient(node, async (client) => {
    const { revision } = await client.call(register, { entries: [web("after", ["third"]), web("w0", ["third"])], staticLease: true });
    const resumed = await fold(
      client,
      { cursor: atEnd.portableCursor, held: atEnd.held },
      (message) => message.bookmark && message.revision >= revision,
    );
    expect(resumed.snapshots).toBe(0);
    const truth = await allEntries(client, "svc");
    expect(resumed.held).toEqual(new Map(truth.map((entry) => [keyLine(entry.key), entry.tags.join()])));
    expect(resumed.held.size).toBe(299);
  });
});

test("SIGTERM hands every open watch a portable cursor and ends it with UNAVAILABLE and RetryInfo", { tags: ["night"] }, async () => {
  const data = folder();
  const open = Promise.withResolvers<void>();
  let openCount = 0;
  const ended = await (async () => {
    await using node = await startNodeProcess(["--data-dir", data]);
    return await withClient(node, async (client) => {
      await client.call(register, { entries: [web("one")], staticLease: true });
      const watches = Array.from({ length: 5 }, async () => {
        let portableCursor = "";
        try {
          for await (const message of client.stream(catalogWatch, { namespacePrefix: "svc" })) {
            if (message.snapshot === Snapshot.END && ++openCount === 5) open.resolve();
            portableCursor = message.portableCursor;
          }
        } catch (error) {
          return { portableCursor, error };
        }
        return { portableCursor, error: undefined };
      });
      await open.promise;
      // Nothing is left behind by the change that comes just before the end.
      await client.call(register, { entries: [web("two")], staticLease: true });
      const { exit } = await node.stop("SIGTERM");
      expect(exit).toBe(0);
      return Promise.all(watches);
    });
  })();
  for (const { portableCursor, error } of ended) {
    expect(portableCursor).toMatch(/^p1\./);
    if (!(error instanceof RequestError)) throw new Error("did not end with a status", { cause: error });
    expect(error.facts).toMatchObject({ code: "UNAVAILABLE", reason: "DRAINING" });
    expect(error.facts.retryMs).toBeGreaterThan(0);
  }
  await using node = await startNodeProcess(["--data-dir", data]);
  await withClient(node, async (client) => {
    const seen = await fold(client, { cursor: ended[0]?.portableCursor ?? "" }, ({ bookmark }) => bookmark);
    expect(seen).toMatchObject({ snapshots: 0, held: new Map() });
  });
});

test("a second node on the same data directory is refused, and the first goes on", async () => {
  const data = folder();
  await using node = await startNodeProcess(["--data-dir", data]);
  const second = await refusedStart(["--data-dir", data]);
  expect(second.stderr).toMatch(/in use|another|locked/);
  expect(second.stderr).toContain(data);
  await withClient(node, async (client) => client.call(register, { entries: [web("one")], staticLease: true }));
});

test("another node id on a data directory is refused, with both ids", { tags: ["night"] }, async () => {
  const data = folder();
  await (await startNodeProcess(["--data-dir", data, "--node-id", "n1"])).stop();
  const before = directoryBytes(data);
  const { stderr } = await refusedStart(["--data-dir", data, "--node-id", "n2"]);
  expect(stderr).toContain("n1");
  expect(stderr).toContain("n2");
  expect(directoryBytes(data)).toEqual(before);
  await (await startNodeProcess(["--data-dir", data, "--node-id", "n1"])).stop();
});

const DAMAGES = [
  { what: "of a newer format", at: 60, bytes: [0, 0, 0, 99], says: /has format 99/ },
  { what: "with a damaged header", at: 0, bytes: [1, 2, 3], says: /is damaged/ },
  { what: "with a damaged page", at: 4096 + 3, bytes: [255, 255, 255, 255], says: /is damaged/ },
];

test("a journal of a newer format, or damaged, is refused with exit code 1 and left as it was", { tags: ["night"] }, async () => {
  const data = folder();
  const first = await startNodeProcess(["--data-dir", data]);
  await withClient(first, async (client) =>
    client.call(register, { entries: Array.from({ length: 200 }, (_, i) => web(`w${i}`)), staticLease: true }),
  );
  await first.stop();
  const path = join(data, "journal.db");
  const healthy = readFileSync(path);
  for (const { what, at, bytes, says } of DAMAGES) {
    const damaged = Buffer.from(healthy);
    damaged.set(bytes, at);
    writeFileSync(path, damaged);
    const before = directoryBytes(data);
    const { stderr } = await refusedStart(["--data-dir", data]);
    expect({ what, stderr }).toEqual({ what, stderr: expect.stringMatching(says) as string });
    expect(stderr).not.toMatch(/\n\s+at /);
    expect({ what, files: directoryBytes(data) }).toEqual({ what, files: before });
  }
  // Nothing was made worse: with the bytes back everything is there.
  writeFileSync(path, healthy);
  await using node = await startNodeProcess(["--data-dir", data]);
  await withClient(node, async (client) => expect(await allEntries(client, "svc")).toHaveLength(200));
});

test("after kill -9 a directory whose log is gone is refused, and served as it is, by a new origin, with the flag it names", {
  tags: ["night"],
}, async () => {
  const data = folder();
  const first = await startNodeProcess(["--data-dir", data]);
  await withClient(first, async (client) => client.call(register, { entries: [web("kept")], staticLease: true }));
  await first.stop();
  const second = await startNodeProcess(["--data-dir", data]);
  await withClient(second, async (client) => client.call(register, { entries: [web("lost")], staticLease: true }));
  await second.stop("SIGKILL");
  rmSync(join(data, "journal.db-wal"));
  const before = directoryBytes(data);
  const { stderr } = await refusedStart(["--data-dir", data]);
  expect(stderr).toMatch(/journal\.db has lost its log: .*put the log back, or start with --new-generation/);
  expect(directoryBytes(data)).toEqual(before);
  await using third = await startNodeProcess(["--data-dir", data, "--new-generation"]);
  await withClient(third, async (client) => expect(instances(await allEntries(client, "svc"))).toEqual(["kept"]));
});

test("after kill -9 an audit whose log is gone is read as far as it goes, and audit verify says that its end is lost", {
  tags: ["night"],
}, async () => {
  const data = folder();
  const first = await startNodeProcess(["--data-dir", data]);
  await withClient(first, async (client) => client.call(register, { entries: [web("lost")], staticLease: true }));
  expect((await first.run(["audit", "list", "-o", "json"])).stdout).toContain('"register"');
  await first.stop("SIGKILL");
  rmSync(join(data, "audit.db-wal"));
  await using second = await startNodeProcess(["--data-dir", data]);
  const { exit, stdout, stderr } = await second.run(["audit", "verify"]);
  // The list of the audit log is a record of its own, unless the node is killed before it is written.
  expect([exit, stdout + stderr]).toEqual([1, expect.stringMatching(/records? 1 (?:is|to 2 are) missing/) as string]);
  expect((await second.run(["audit", "list"])).stdout).toContain("audit_log_lost");
});

test("a taken port is told with its address and exit code 1, and the data directory is not left locked", { tags: ["night"] }, async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  const data = folder();
  for (const name of ["http", "dns"]) {
    const address = node.listeners[name] ?? "";
    const taken = address.slice(address.lastIndexOf(":") + 1);
    const { stderr } = await refusedStart(["--data-dir", data, `--${name}-port`, taken]);
    expect(stderr).toMatch(/error: address already in use/);
    expect(stderr).toContain(address);
    expect(stderr).toContain(`--${name}-port`);
    expect(stderr).not.toMatch(/\n\s+at /);
  }
});

test("a second signal ends a node at once, and the next start has all that was acknowledged", { tags: ["night"] }, async () => {
  const data = folder();
  const first = await startNodeProcess(["--data-dir", data]);
  await withClient(first, async (client) => {
    await client.call(register, { entries: [web("kept")], staticLease: true });
    // A node that drains waits for an open stream.
    const watch = client.stream(DiscoveryService.method.catalogWatch, { namespacePrefix: "svc" })[Symbol.asyncIterator]();
    await watch.next();
    // Two of one kind may arrive as one.
    first.command.kill("SIGTERM");
    first.command.kill("SIGINT");
    const { exit } = await first.command.finished();
    expect([130, 143]).toContain(exit);
  });
  await using node = await startNodeProcess(["--data-dir", data]);
  await withClient(node, async (client) => expect(await allEntries(client, "svc")).toHaveLength(1));
});

/** A start that must fail. */
async function refusedStart(flags: readonly string[]): Promise<Finished> {
  const free = ["--grpc-port", "--http-port", "--dns-port", "--fabric-port"].flatMap((flag) => (flags.includes(flag) ? [] : [flag, "0"]));
  const finished = await new CommandProcess(["serve", "-o", "json", ...free, ...flags]).finished();
  expect(finished).toMatchObject({ exit: 1, stdout: "" });
  return finished;
}
