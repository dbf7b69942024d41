// Kueue's own scheduler, cache, controllers and integration of batch/v1 Jobs, without the rest of its program: its other
// integrations are 700 packages, and its webhooks and metrics want certificates where only a pod has them. What the
// webhook would do to a Job, suspending it, Coppice does itself.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	configapi "sigs.k8s.io/kueue/apis/config/v1beta2"
	kueue "sigs.k8s.io/kueue/apis/kueue/v1beta2"
	qcache "sigs.k8s.io/kueue/pkg/cache/queue"
	schdcache "sigs.k8s.io/kueue/pkg/cache/scheduler"
	"sigs.k8s.io/kueue/pkg/constants"
	"sigs.k8s.io/kueue/pkg/controller/core"
	"sigs.k8s.io/kueue/pkg/controller/core/indexer"
	"sigs.k8s.io/kueue/pkg/controller/jobframework"
	"sigs.k8s.io/kueue/pkg/controller/jobs/job"
	"sigs.k8s.io/kueue/pkg/scheduler"
	preemptexpectations "sigs.k8s.io/kueue/pkg/scheduler/preemption/expectations"
)

func main() {
	// controller-runtime adds --kubeconfig.
	flag.Parse()
	ctrl.SetLogger(zap.New())
	if err := run(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, kueue.AddToScheme, configapi.AddToScheme} {
		utilruntime.Must(add(scheme))
	}
	configuration := &configapi.Configuration{}
	scheme.Default(configuration)
	mgr, err := ctrl.NewManager(ctrl.GetConfigOrDie(), ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
	})
	if err != nil {
		return err
	}
	cache := schdcache.New(mgr.GetClient())
	requeuer := qcache.NewRequeuer()
	expectations := preemptexpectations.New()
	queues := qcache.NewManager(mgr.GetClient(), cache, requeuer, qcache.WithPreemptionExpectations(expectations))
	if err := indexer.Setup(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	if err := job.SetupIndexes(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	if name, err := core.SetupControllers(mgr, queues, cache, configuration, nil, expectations, nil); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	jobframework.EnableIntegration(job.FrameworkName)
	reconciler, err := job.NewReconciler(ctx, mgr.GetClient(), mgr.GetFieldIndexer(),
		mgr.GetEventRecorderFor(constants.JobControllerName), jobframework.WithCache(cache),
		jobframework.WithQueues(queues), jobframework.WithManagedJobsNamespaceSelector(labels.Everything()))
	if err != nil {
		return err
	}
	if err := reconciler.SetupWithManager(mgr); err != nil {
		return err
	}
	for _, runnable := range []interface {
		Start(context.Context) error
	}{
		requeuer,
		scheduler.New(queues, cache, mgr.GetClient(), mgr.GetEventRecorderFor(constants.AdmissionName),
			scheduler.WithPreemptionExpectations(expectations)),
	} {
		if err := mgr.Add(runnable); err != nil {
			return err
		}
	}
	go queues.CleanUpOnContext(ctx)
	go cache.CleanUpOnContext(ctx)
	return mgr.Start(ctx)
}
