import { fromBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { JoinServiceFollowResponseSchema } from "../../../gen/waymark/control/v1/join_pb.js";
import type { TrustChange } from "../../../src/control/identity/trust.ts";
import { type TrustSource, TrustStream } from "../../../src/services/identity/trust-stream.ts";

const bytes = (text: string) => Buffer.from(text);

/** A stream over records that the test changes. `read` returns the messages that it sends now. */
function opened(records: Map<string, Uint8Array>, allows: (key: string) => boolean = () => true) {
  let onChange: Parameters<TrustSource["follow"]>[0] = () => {};
  const source = {
    copy: { records, roots: "" },
    follow: (follower: typeof onChange) => {
      onChange = follower;
      return () => {};
    },
  };
  const stream = new TrustStream({ source, allows, tick: () => () => {} });
  stream.attach(
    () => {},
    () => {},
  );
  const read = (monoMs: number) => {
    const sent = [];
    for (let next = stream.pull({ monoMs, wallMs: 0 }); next !== undefined; next = stream.pull({ monoMs, wallMs: 0 })) {
      const { reset, complete, changes } = fromBinary(JoinServiceFollowResponseSchema, next);
      sent.push({ reset, complete, changes: changes.map(({ key, value }) => `${key}=${Buffer.from(value).toString()}`) });
    }
    return sent;
  };
  const change = (changes: readonly TrustChange[], isReset = false, copy = source.copy) => onChange(changes, isReset, copy);
  return { read, change };
}

test("a stream starts with all records that its reader may have, and sends each change of this cluster", () => {
  const records = new Map([
    ["trust/roots/r", bytes("1")],
    ["trust/credentials/c", bytes("2")],
  ]);
  const { read, change } = opened(records, (key) => !key.startsWith("trust/credentials/"));
  expect(read(0)).toEqual([{ reset: true, complete: true, changes: ["trust/roots/r=1"] }]);
  change([
    { key: "trust/revocations/name/node/a", value: bytes("3") },
    { key: "trust/credentials/d", value: bytes("4") },
  ]);
  expect(read(1)).toEqual([{ reset: false, complete: true, changes: ["trust/revocations/name/node/a=3"] }]);
  change([{ key: "trust/revocations/name/node/a", value: undefined }]);
  expect(read(2)).toEqual([{ reset: false, complete: true, changes: ["trust/revocations/name/node/a="] }]);
  change([{ key: "trust/revocations/name/node/a", value: bytes("5") }], true, { records: new Map(), roots: "" });
  expect(read(3)).toEqual([]);
});

test("a silent stream sends an empty message every five seconds, and large contents come in several messages", () => {
  const large = new Map(["a", "b", "c"].map((name) => [`trust/roots/${name}`, Buffer.alloc(200_000, name)]));
  const { read, change } = opened(large);
  expect(read(1).map(({ reset, complete, changes }) => [reset, complete, changes.length])).toEqual([
    [true, false, 1],
    [false, false, 1],
    [false, true, 1],
  ]);
  expect(read(4_999)).toEqual([]);
  expect(read(5_001)).toEqual([{ reset: false, complete: true, changes: [] }]);
  change([], true);
  expect(read(5_002)[0]).toMatchObject({ reset: true, complete: false });
});
