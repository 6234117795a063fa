// One member of a memberlist group, for bench/membership.ts: says on standard output whom it sees come and go, and when.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

type watcher struct{}

func say(what string, node *memberlist.Node) {
	line, _ := json.Marshal(map[string]any{"what": what, "node": node.Name, "at": time.Now().UnixMicro()})
	fmt.Println(string(line))
}

func (watcher) NotifyJoin(node *memberlist.Node)   { say("join", node) }
func (watcher) NotifyLeave(node *memberlist.Node)  { say("leave", node) }
func (watcher) NotifyUpdate(node *memberlist.Node) { say("update", node) }

func main() {
	name := flag.String("name", "", "node name")
	join := flag.String("join", "", "host:port of a member")
	bind := flag.String("bind", "127.0.0.1", "address to listen at")
	local := flag.Bool("local", false, "the configuration for one machine, not that for a network")
	flag.Parse()
	config := memberlist.DefaultLANConfig()
	if *local {
		config = memberlist.DefaultLocalConfig()
	}
	config.Name = *name
	config.BindAddr = *bind
	config.BindPort = 0
	config.AdvertiseAddr = *bind
	config.Events = watcher{}
	config.Logger = log.New(io.Discard, "", 0)
	list, err := memberlist.Create(config)
	if err != nil {
		log.Fatal(err)
	}
	line, _ := json.Marshal(map[string]any{"what": "ready", "address": list.LocalNode().Address()})
	fmt.Println(string(line))
	if *join != "" {
		if _, err := list.Join(strings.Split(*join, ",")); err != nil {
			log.Fatal(err)
		}
	}
	// Until standard input ends, as it does with the benchmark.
	_, _ = io.Copy(io.Discard, os.Stdin)
}
