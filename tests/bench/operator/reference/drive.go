package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// times of one resource in seconds since the start; 0 is never.
type times struct{ asked, job, settled float64 }

type driver struct {
	namespace string
	resource  schema.GroupVersionResource
	resources dynamic.Interface
	metadata  metadata.Interface
	began     time.Time

	mutex    sync.Mutex
	of       map[string]*times
	jobs     int
	settled  int
	finished chan struct{}
}

// drive creates resources as fast as the API server takes them and prints when their Jobs and statuses showed, as JSON.
func drive(arguments []string) {
	flags := flag.NewFlagSet("drive", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "of the cluster")
	namespace := flags.String("namespace", "default", "in which resources are made")
	resource := flags.String("resource", "", "group/version/plural")
	template := flags.String("template", "", "file with one resource as JSON; its name is replaced")
	prefix := flags.String("prefix", "bench", "of the names")
	count := flags.Int("n", 1000, "resources")
	atOnce := flags.Int("at-once", 16, "requests under way at once")
	limit := flags.Duration("timeout", 10*time.Minute, "until all are settled")
	_ = flags.Parse(arguments)
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	must(err)
	config.QPS = -1
	text, err := os.ReadFile(*template)
	must(err)
	var body map[string]any
	must(json.Unmarshal(text, &body))
	parts := strings.Split(*resource, "/")
	if len(parts) != 3 {
		log.Fatalf("--resource %q: group/version/plural", *resource)
	}
	d := &driver{
		namespace: *namespace, resource: schema.GroupVersionResource{Group: parts[0], Version: parts[1], Resource: parts[2]},
		resources: dynamic.NewForConfigOrDie(config), metadata: metadata.NewForConfigOrDie(rest.CopyConfig(config)),
		of: map[string]*times{}, finished: make(chan struct{}),
	}
	names := make([]string, *count)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%05d", *prefix, i)
		d.of[names[i]] = &times{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), *limit)
	defer cancel()
	d.began = time.Now()
	d.watchJobs(ctx)
	d.watchResources(ctx)
	begin := d.now()
	d.create(ctx, names, body, *atOnce)
	created := d.now() - begin
	select {
	case <-d.finished:
	case <-ctx.Done():
	}
	d.report(*count, begin, created)
}

func (d *driver) now() float64 { return time.Since(d.began).Seconds() }

func (d *driver) create(ctx context.Context, names []string, body map[string]any, atOnce int) {
	var next int64 = -1
	var workers sync.WaitGroup
	for range atOnce {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for {
				i := int(atomic.AddInt64(&next, 1))
				if i >= len(names) {
					return
				}
				item := &unstructured.Unstructured{Object: map[string]any{}}
				for key, value := range body {
					item.Object[key] = value
				}
				item.Object["metadata"] = map[string]any{"name": names[i], "namespace": d.namespace}
				d.mutex.Lock()
				d.of[names[i]].asked = d.now()
				d.mutex.Unlock()
				if _, err := d.resources.Resource(d.resource).Namespace(d.namespace).Create(ctx, item, metav1.CreateOptions{}); err != nil {
					log.Fatalf("create %s: %v", names[i], err)
				}
			}
		}()
	}
	workers.Wait()
}

func (d *driver) watchJobs(ctx context.Context) {
	jobs := d.metadata.Resource(schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}).Namespace(d.namespace)
	list, err := jobs.List(ctx, metav1.ListOptions{Limit: 1})
	must(err)
	go d.watch(ctx, list.ResourceVersion, jobs.Watch, func(event watch.Event) string {
		item, ok := event.Object.(*metav1.PartialObjectMetadata)
		if !ok {
			return ""
		}
		for _, owner := range item.OwnerReferences {
			if found := d.of[owner.Name]; found != nil && found.job == 0 {
				found.job = d.now()
				d.jobs++
				d.finish()
			}
		}
		return item.ResourceVersion
	})
}

func (d *driver) watchResources(ctx context.Context) {
	resources := d.resources.Resource(d.resource).Namespace(d.namespace)
	list, err := resources.List(ctx, metav1.ListOptions{Limit: 1})
	must(err)
	go d.watch(ctx, list.GetResourceVersion(), resources.Watch, func(event watch.Event) string {
		item, ok := event.Object.(*unstructured.Unstructured)
		if !ok {
			return ""
		}
		observed, _, _ := unstructured.NestedInt64(item.Object, "status", "observedGeneration")
		if found := d.of[item.GetName()]; found != nil && found.settled == 0 && observed > 0 {
			found.settled = d.now()
			d.settled++
			d.finish()
		}
		return item.GetResourceVersion()
	})
}

// finish tells when every resource has its Job and its status; either may show first.
func (d *driver) finish() {
	if d.settled == len(d.of) && d.jobs == len(d.of) {
		close(d.finished)
	}
}

func (d *driver) watch(
	ctx context.Context, version string, open func(context.Context, metav1.ListOptions) (watch.Interface, error), saw func(watch.Event) string,
) {
	for ctx.Err() == nil {
		stream, err := open(ctx, metav1.ListOptions{ResourceVersion: version, AllowWatchBookmarks: true})
		if err != nil {
			log.Print("watch: ", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		for event := range stream.ResultChan() {
			d.mutex.Lock()
			if seen := saw(event); seen != "" {
				version = seen
			}
			d.mutex.Unlock()
		}
	}
}

func (d *driver) report(count int, begin, created float64) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	var toJob, toSettled, jobTimes []float64
	last := 0.0
	for _, item := range d.of {
		if item.job > 0 {
			toJob = append(toJob, item.job-item.asked)
			jobTimes = append(jobTimes, item.job-begin)
		}
		if item.settled > 0 {
			toSettled = append(toSettled, item.settled-item.asked)
			last = max(last, item.settled-begin)
		}
	}
	out := map[string]any{
		"n": count, "jobs": len(toJob), "settled": len(toSettled), "create_seconds": created, "settled_seconds": last,
		"settled_per_second":        float64(len(toSettled)) / max(last, 1e-9),
		"create_to_job_seconds":     map[string]float64{"p50": share(toJob, .5), "p99": share(toJob, .99)},
		"create_to_settled_seconds": map[string]float64{"p50": share(toSettled, .5), "p99": share(toSettled, .99)},
	}
	text, err := json.Marshal(out)
	must(err)
	fmt.Println(string(text))
}

// share returns the value below which a share of the values lies; -1 for none.
func share(values []float64, portion float64) float64 {
	if len(values) == 0 {
		return -1
	}
	sort.Float64s(values)
	return values[min(int(portion*float64(len(values))), len(values)-1)]
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
