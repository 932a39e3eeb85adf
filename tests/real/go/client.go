// A client of quic-go for tests: asks a server over HTTP/3 in several ways and prints what came, one word of JSON for each.
//
//	client [-cert FILE -key FILE] https://localhost:8443
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/lucas-clemente/quic-go"
	"github.com/lucas-clemente/quic-go/http3"
)

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// ask gives an answer's protocol, status and body.
func ask(client *http.Client, method, url string, body []byte) (string, int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	fail(err)
	answer, err := client.Do(request)
	fail(err)
	defer answer.Body.Close()
	all, err := io.ReadAll(answer.Body)
	fail(err)
	return answer.Proto, answer.StatusCode, string(all)
}

func main() {
	cert, key := flag.String("cert", "", ""), flag.String("key", "", "")
	flag.Parse()
	base := flag.Arg(0)
	config := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(10)}
	if *cert != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		fail(err)
		config.Certificates = []tls.Certificate{pair}
	}
	made := func() *http3.RoundTripper {
		return &http3.RoundTripper{TLSClientConfig: config, QuicConfig: &quic.Config{Versions: []quic.VersionNumber{quic.Version1}}}
	}
	first := made()
	client := &http.Client{Transport: first}
	told := map[string]any{}
	proto, status, who := ask(client, "GET", base+"/who", nil)
	told["proto"], told["status"], told["who"] = proto, status, who
	_, _, told["digest"] = ask(client, "POST", base+"/digest", bytes.Repeat([]byte("go"), 200_000))
	_, _, large := ask(client, "GET", base+"/large/700000", nil)
	told["large"] = len(large)
	_, _, told["events"] = ask(client, "GET", base+"/events", nil)
	_, told["hints"], _ = ask(client, "GET", base+"/hints", nil)
	var wait sync.WaitGroup
	var lock sync.Mutex
	many := 0
	for n := 0; n < 30; n++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			_, status, _ := ask(client, "GET", base+"/who", nil)
			lock.Lock()
			defer lock.Unlock()
			if status == 200 {
				many++
			}
		}()
	}
	wait.Wait()
	told["many"] = many
	first.Close()
	second := made() // with the ticket of the first
	_, _, told["early"] = ask(&http.Client{Transport: second}, http3.MethodGet0RTT, base+"/who", nil)
	second.Close()
	fail(json.NewEncoder(os.Stdout).Encode(told))
}
