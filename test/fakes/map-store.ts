/** A control store in a map. Its owner decides when a request is carried out, and whether the request or its answer is lost. */
import type {
  ControlStore,
  StoreCondition,
  StoreItem,
  StorePage,
  StorePageRequest,
  StoreWatch,
  StoreWrite,
  SwapResult,
  TransactResult,
} from "../../src/store/control/store.ts";
import { ControlMap } from "./control-map.ts";

/** A request to the store: `run` carries it out. */
export type MapRequest = <T>(run: () => T, isWrite: boolean) => Promise<T>;

export class MapStore implements ControlStore {
  readonly map = new ControlMap();
  /** By default, requests are carried out immediately. */
  request: MapRequest = async (run) => run();

  get(key: string): Promise<StoreItem | undefined> {
    return this.request(() => this.map.get(key), false);
  }

  list(prefix: string, page?: StorePageRequest): Promise<StorePage> {
    return this.request(() => this.map.list(prefix, page), false);
  }

  transact(conditions: readonly StoreCondition[], changes: readonly StoreWrite[]): Promise<TransactResult> {
    return this.request(() => this.map.transact(conditions, changes), true);
  }

  compareAndSwap(key: string, expectedVersion: number, value: Uint8Array | undefined): Promise<SwapResult> {
    return this.request(() => this.map.compareAndSwap(key, expectedVersion, value), true);
  }

  watch(): StoreWatch {
    throw new Error("the authority watches nothing");
  }

  async compact(): Promise<void> {}

  async close(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {}
}
