/** Answers put together from kept bytes are what protobuf-es reads. */
import { fromBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { CatalogWatchResponseSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { ACTION, type Change, type FeedMessage, SNAPSHOT } from "../../../src/catalog/watch/reader.ts";
import { DiscoveryBytes } from "../../../src/services/discovery/response-bytes.ts";
import { at, caller, command, keyOf, Registry, stamped } from "../../fakes/registry.ts";

function message(changes: readonly Change[]): FeedMessage {
  const none = { portableCursor: "", snapshot: SNAPSHOT.NONE, replaces: [], isBookmark: false, digest: undefined };
  return { ...none, changes, revision: 7, cursor: "here" };
}

test.each([{ isNamesOnly: false }, { isNamesOnly: true }])(
  "a delta carries the entry, or only its key when names only are asked: $isNamesOnly",
  ({ isNamesOnly }) => {
    const registry = new Registry();
    registry.registrar.register(caller("joe"), command([stamped("web", { tags: ["blue"] })]), at(0));
    registry.flush(at(0));
    const { replica } = registry;
    const record = replica.view(keyOf("web"));
    if (record === undefined) throw new Error("not registered");
    const bytes = new DiscoveryBytes(replica.slab, { of: () => undefined });
    const changes = [
      { action: ACTION.CREATE, record, revision: 7 },
      { action: ACTION.REMOVE, record, revision: 7 },
    ];
    const read = fromBinary(
      CatalogWatchResponseSchema,
      bytes.watch(message(changes), { isNamesOnly, sentWallMs: 1_500, servedBy: "a", ageMs: 0 }),
    );
    expect(read).toMatchObject({ revision: 7n, cursor: "here" });
    const [put, removed] = read.deltas;
    const key = { namespace: "svc", name: "web", instanceId: "1", clusterId: "c1" };
    expect(put?.payload).toMatchObject({ case: "entry", value: { key, tags: isNamesOnly ? [] : ["blue"] } });
    expect(put?.sentAt).toMatchObject({ seconds: 1n, nanos: 500_000_000 });
    expect(removed?.payload).toMatchObject({ case: "removed", value: key });
  },
);
