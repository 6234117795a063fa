/** The journal's rows of own records. */
import { expect, test } from "vitest";
import { rowOf } from "../../src/catalog/batch.ts";
import { decodeRecord } from "../../src/catalog/record/codec.ts";
import { BODY } from "../../src/catalog/record/record.ts";
import { BOUNDS } from "../fakes/options.ts";
import { at, keyOf, Registry, stamped } from "../fakes/registry.ts";

test("a row says what the record says, of an entry and of a tombstone", () => {
  const r = new Registry();
  r.register("ann", [stamped("a")], at(0), { ttlMs: 1000 });
  const row = () => {
    const own = r.replica.own(keyOf("a"));
    if (own === undefined) throw new Error("no own record");
    return { own, read: decodeRecord(rowOf(r.replica, own), BOUNDS) };
  };
  const put = row();
  expect(put.read).toMatchObject({ seq: put.own.seq, hlc: put.own.hlc, principal: "ann", body: BODY.ENTRY });
  r.registrar.tick(at(2000));
  r.flush(at(2000));
  const end = row();
  expect(end.read).toMatchObject({ seq: end.own.seq, body: BODY.EXPIRED, key: { name: "a", clusterId: "c1" } });
});
