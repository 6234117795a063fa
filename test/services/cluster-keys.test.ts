/** `PeerService.Keys`, over keys that a test writes down. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { PeerServiceKeysRequestSchema, type PeerServiceKeysResponse } from "../../gen/waymark/control/v1/peer_pb.js";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { requestCheckOf } from "../../src/services/contract.ts";
import { type PeerParts, peerService } from "../../src/services/peers/peers.ts";
import { NO_OPERATIONS } from "../fakes/peer-operations.ts";
import { askRoute } from "../fakes/route.ts";

const TIME = { monoMs: 5000, wallMs: 1_760_000_005_000 };
const CONTEXT = { caller: anonymousCaller("c1", "127.0.0.1", ["mesh.read"]), time: TIME, requestId: "r" };

type Row = ReturnType<PeerParts["clusterKeys"]>[number];

const row = (cluster: string, keyId: string, more: Partial<Row> = {}): Row => ({
  cluster,
  region: `region-${cluster}`,
  keyId,
  publicKey: new Uint8Array(32).fill(1),
  counts: true,
  announced: undefined,
  signs: false,
  ...more,
});
/** The same announcement twice: its bytes may differ in what nobody sees. */
const ANNOUNCED = row("us1", "k2", {
  counts: false,
  announced: { signedBy: "k1", notBeforeWallMs: 0, notAfterWallMs: Number.MAX_SAFE_INTEGER },
});
const ROWS = [row("us1", "k1", { signs: true }), ANNOUNCED, ANNOUNCED, row("ap1", "k3")];

function served(rows: readonly Row[]) {
  const nothing = { members: () => [], member: () => undefined, follow: () => () => {} };
  const source = { ...nothing, story: () => expect.fail(), lag: () => expect.fail() };
  const identity = { nodeId: "n1", clusterId: "us1", region: "us", boot: "b1" };
  const service = peerService({
    ...NO_OPERATIONS,
    source,
    identity,
    clusterKeys: () => rows,
    checkCaughtUp: () => {},
    maxWatches: 1,
    tick: () => () => {},
  });
  const { keys } = service.handlers;
  if (keys?.kind !== "unary") throw new Error("Keys is not unary");
  const ask = (init: MessageInitShape<typeof PeerServiceKeysRequestSchema>) => {
    const request = create(PeerServiceKeysRequestSchema, init);
    requestCheckOf(PeerServiceKeysRequestSchema)(request);
    return keys.handle(request as never, CONTEXT) as PeerServiceKeysResponse;
  };
  return { service, ask };
}

test("the keys are told by cluster, and whether each counts, by whom it was announced, and which one this node signs with", () => {
  const { keys, servedBy } = served(ROWS).ask({});
  expect(servedBy).toBe("n1");
  expect(keys.map(({ clusterId, keyId, announcedBy, counts, signs }) => [clusterId, keyId, announcedBy, counts, signs])).toEqual([
    ["ap1", "k3", "", true, false],
    ["us1", "k1", "", true, true],
    ["us1", "k2", "k1", false, false],
    ["us1", "k2", "k1", false, false],
  ]);
});

test("pages join to the list, and a token is of its filter", () => {
  const { ask } = served(ROWS);
  const told: string[] = [];
  let token = "";
  do {
    const { keys, nextPageToken } = ask({ limit: 1, pageToken: token });
    told.push(...keys.map(({ keyId }) => keyId));
    token = nextPageToken;
  } while (token !== "");
  expect(told).toEqual(["k3", "k1", "k2", "k2"]);
  expect(ask({ clusterId: "us1" }).keys).toHaveLength(3);
  expect(() => ask({ clusterId: "us1", pageToken: ask({ limit: 1 }).nextPageToken })).toThrow("page_token");
  expect(() => ask({ clusterId: "us 1" })).toThrow("cluster_id");
});

test("the route says the same, with public keys as the settings have them and times that JSON can write; only its time is not steady", () => {
  const asked = (wallMs: number) =>
    askRoute(served(ROWS).service, { path: "/control/keys", parameters: { cluster_id: "us1" }, time: { monoMs: 0, wallMs } });
  const { page, steady } = asked(1000);
  expect(page).toMatchObject({
    keys: [
      { keyId: "k1", publicKey: Buffer.from(new Uint8Array(32).fill(1)).toString("base64"), announcedBy: "" },
      { keyId: "k2", notBefore: "1970-01-01T00:00:00Z", notAfter: "9999-12-31T23:59:59.999Z" },
      { keyId: "k2" },
    ],
    generatedAt: "1970-01-01T00:00:01Z",
  });
  expect(asked(2000).steady).toEqual(steady);
  expect(() => askRoute(served(ROWS).service, { path: "/control/keys", parameters: { cluster_id: "us 1" } })).toThrow("cluster_id");
});
