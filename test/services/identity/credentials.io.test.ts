/** CredentialService, over a store in a map. */
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { CredentialService } from "../../../gen/waymark/control/v1/credential_pb.js";
import { sha256Hex } from "../../../src/lib/crypto.ts";
import { IdentityServices, NOW_MS } from "../../fakes/identity-services.ts";

const { create, list, revoke } = CredentialService.method;
const DAY_MS = 86_400_000;

test("a caller's token is shown once, stored as a digest, listed without its secret, and revoked", async () => {
  const on = new IdentityServices();
  const terms = { principal: "deployer", tenant: "market", roles: ["owner:shop.market", "mesh.read"], ttl: durationFromMs(DAY_MS) };
  const { token, info } = await on.call(create, terms);
  const { ttl: _, ...shown } = terms;
  const times = { createdAt: timestampFromMs(NOW_MS), expiresAt: timestampFromMs(NOW_MS + DAY_MS) };
  expect(info).toMatchObject({ ...shown, ...times, createdBy: "ann", accessor: token.split(".")[1] });
  const stored = on.store.map.list("trust/credentials/").items.map(({ value }) => Buffer.from(value).toString());
  expect(stored.join("")).toContain(sha256Hex(token));
  expect(stored.join("")).not.toContain(token.split(".")[2]);
  expect((await on.call(list, {})).credentials).toEqual([info]);
  await on.call(revoke, { accessor: info?.accessor ?? "", reason: "leaked" });
  expect((await on.call(list, {})).credentials).toEqual([]);
  expect(on.operations.map(({ action, detail }) => `${action} ${detail}`)).toEqual([
    "identity.create_credential principal=deployer tenant=market roles=owner:shop.market,mesh.read ttl_s=86400",
    `identity.revoke_credential accessor=${info?.accessor} leaked`,
  ]);
});

test("without choices, a token is valid for 90 days, and an ended one is no longer listed", async () => {
  const on = new IdentityServices();
  const { info } = await on.call(create, { principal: "p" });
  expect(info?.expiresAt).toEqual(timestampFromMs(NOW_MS + 90 * DAY_MS));
  on.wallMs += 91 * DAY_MS;
  expect((await on.call(list, {})).credentials).toEqual([]);
  expect(on.store.map.list("trust/credentials/").items).toEqual([]);
});

test.each([
  { request: { principal: "" }, want: /principal/ },
  { request: { principal: "a b" }, want: /principal/ },
  { request: { principal: "p", roles: ["root"] }, want: /roles\[0\]: "root" must be mesh\.read/ },
  { request: { principal: "p", ttl: durationFromMs(400 * DAY_MS) }, want: /ttl/ },
])("a token with $request is refused", async ({ request, want }) => {
  await expect(new IdentityServices().call(create, request)).rejects.toThrow(want);
});

test("an unknown token is not_found, and the refusal is recorded", async () => {
  const on = new IdentityServices();
  await expect(on.call(revoke, { accessor: "abc" })).rejects.toThrow(/not_found: accessor: there is no token abc/);
  expect(on.operations).toMatchObject([{ action: "identity.revoke_credential", refusal: "not_found" }]);
});

test("a node that does not use such tokens says which setting is missing", async () => {
  const on = new IdentityServices({ isManaged: false, issuers: ["eu-1:17421"] });
  await expect(on.call(create, { principal: "p" })).rejects.toThrow(/wrong_node: this node does not use such tokens; set tenants\.managed/);
});
