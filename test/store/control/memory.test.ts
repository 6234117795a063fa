import { MemoryMap, MemoryStore } from "../../../src/store/control/memory.ts";
import { storeContract } from "../../contract/store.ts";

storeContract("memory", { runs: 200, open: (bounds) => Promise.resolve(new MemoryStore(new MemoryMap(bounds))) });
