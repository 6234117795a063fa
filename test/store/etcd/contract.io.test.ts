import { afterAll, beforeAll, describe } from "vitest";
import { peerProgram } from "../../../bench/_peers.ts";
import { MAX_ETCD_VALUE_BYTES, openEtcdStore } from "../../../src/store/etcd/store.io.ts";
import { storeContract } from "../../contract/store.ts";
import { EtcdCluster, isEtcdThere } from "../../fakes/etcd.ts";

function etcdContract(name: string, program: string): void {
  let etcd: EtcdCluster | undefined;
  let storeCount = 0;
  beforeAll(async () => {
    etcd = await EtcdCluster.start({ program });
  });
  afterAll(() => etcd?.[Symbol.asyncDispose]());
  storeContract(name, {
    runs: 5,
    maxValueBytes: MAX_ETCD_VALUE_BYTES,
    hasBounds: false,
    open: () => {
      storeCount += 1;
      return Promise.resolve(openEtcdStore({ endpoints: etcd?.endpoints ?? [], prefix: `/waymark/${storeCount}/`, timeoutMs: 5000 }));
    },
  });
}

describe.runIf(isEtcdThere())("etcd of the system", () => {
  etcdContract("etcd", "etcd");
});

/** Built by `npm run bench -- --install`. */
const current = peerProgram("etcd");
describe.runIf(current !== undefined)("current etcd", { tags: ["night"] }, () => {
  etcdContract("current etcd", current ?? "");
});
