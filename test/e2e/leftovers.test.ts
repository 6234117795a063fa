/**
 * What opened and closed watches, registrations, clients and channels leave behind: `test/nightly/client.test.ts` opens 10,000 of them.
 * @module-tag night
 */
import { expect, test } from "vitest";
import { faultsOf, leftoversOf } from "../fakes/leftovers.ts";

const MIB = 1024 * 1024;

test("closed watches, registrations, clients and channels leave no socket and no timer, and little on the heap, in their process and at the servers", async () => {
  // What is compiled meanwhile takes a MiB or two; two hundred connections, streams and channels that stay take more.
  expect(faultsOf(await leftoversOf(200, 50), { clientBytes: 2 * MIB, serverBytes: 4 * MIB })).toEqual([]);
});
